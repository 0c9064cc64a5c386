//! The page and its assets over HTTP: types, ETags, compression, a directory in place of the embedded files.

use crate::harness::daemon::Daemon;
use crate::harness::http::{get, request};
use crate::harness::memory;
use crate::harness::wait::{block_on, eventually_async, secs};
use crate::pages::{config, daemon};
use crate::trials;
use flate2::read::GzDecoder;
use libtest_mimic::Trial;
use reqwest::Method;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use tempfile::TempDir;

pub fn trials() -> Vec<Trial> {
    let own_page = crate::own_page::trials();
    let trials = trials![
        assets_have_etags_types_gzip_and_a_content_security_policy,
        the_title_is_escaped,
        an_assets_directory_is_served_fresh_and_nothing_outside_it,
        an_assets_directory_without_a_page_is_reported,
        accept_encoding_weights_are_honoured,
        an_edited_asset_is_served_at_the_next_request,
        an_asset_is_read_and_compressed_once,
        an_asset_too_large_to_keep_is_streamed_from_disk,
    ];
    trials.into_iter().chain(own_page).collect()
}

fn assets_have_etags_types_gzip_and_a_content_security_policy() {
    let daemon = daemon("");
    block_on(async {
        let page = daemon.get("/").await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some("text/html; charset=utf-8"))
        );
        assert!(
            page.header("content-security-policy")
                .is_some_and(|policy| policy.contains("default-src 'self'"))
        );
        let text = page.text();
        assert!(
            text.contains("<title>kafka-sse-bridge</title>") && !text.contains("{{"),
            "{text}"
        );
        for link in text.split(['"', '\'']).filter(|part| part.starts_with("assets/")) {
            let file = daemon.get(&format!("/{link}")).await;
            assert_eq!(file.status, 200, "{link}");
            let wanted = match link.rsplit_once('.').expect("an ending").1 {
                "css" => "text/css; charset=utf-8",
                "js" => "text/javascript; charset=utf-8",
                "svg" => "image/svg+xml",
                other => panic!("{other}"),
            };
            assert_eq!(file.header("content-type"), Some(wanted));
        }
        assert!(
            !text.contains("href=\"/") && !text.contains("src=\"/"),
            "links are relative"
        );

        let etag = page.header("etag").expect("an ETag").to_owned();
        for condition in [etag.clone(), format!("\"other\", W/{etag}"), "*".to_owned()] {
            let again = get(&daemon.url("/"), &[("if-none-match", &condition)]).await;
            assert_eq!(
                (again.status, again.body.len(), again.header("etag")),
                (304, 0, Some(etag.as_str()))
            );
        }
        assert_eq!(
            get(&daemon.url("/"), &[("if-none-match", "\"other\"")])
                .await
                .status,
            200
        );

        let zipped = get(&daemon.url("/"), &[("accept-encoding", "br, gzip;q=0.5")]).await;
        assert_eq!(zipped.header("content-encoding"), Some("gzip"));
        let mut plain = String::new();
        GzDecoder::new(zipped.body.as_slice())
            .read_to_string(&mut plain)
            .expect("gzip");
        assert_eq!(plain, text);
        for refused in ["br", "gzip;q=0", "gzip;q=0, *", "identity"] {
            let plain = get(&daemon.url("/"), &[("accept-encoding", refused)]).await;
            assert_eq!(plain.header("content-encoding"), None, "{refused}");
        }
    });
}

fn the_title_is_escaped() {
    let daemon = daemon("[ui]\ntitle = \"<script>alert('x')</script> & more\"\n");
    block_on(async {
        let text = daemon.get("/").await.text();
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; more";
        assert!(
            text.contains(&format!("<title>{escaped}</title>")) && !text.contains("<script>alert"),
            "{text}"
        );
    });
}

fn an_assets_directory_is_served_fresh_and_nothing_outside_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let assets = directory.path().join("assets");
    fs::create_dir_all(assets.join("deep")).expect("directories");
    fs::write(directory.path().join("secret"), "secret").expect("written");
    fs::write(assets.join("index.html"), "<h1>{{title}}</h1>").expect("written");
    fs::write(assets.join("deep/my file.txt"), "first").expect("written");
    let daemon = Daemon::with(&config("[ui]\ntitle = \"Mine\"\n"))
        .arg("--assets")
        .arg(&assets)
        .start();
    block_on(async {
        assert_eq!(daemon.get("/").await.text(), "<h1>Mine</h1>");
        assert_eq!(daemon.get("/assets/deep/my%20file.txt").await.text(), "first");
        fs::write(assets.join("deep/my file.txt"), "second").expect("written");
        assert_eq!(daemon.get("/assets/deep/my%20file.txt").await.text(), "second");
        assert_eq!(
            daemon.get("/assets/page/main.js").await.status,
            404,
            "the binary's own page is out of the way"
        );
        for outside in [
            "%2e%2e/secret",
            "deep/%2e%2e/%2e%2e/secret",
            "%2fetc/passwd",
            "",
            "deep",
            "%ff",
        ] {
            assert_eq!(
                daemon.get(&format!("/assets/{outside}")).await.status,
                404,
                "{outside}"
            );
        }
    });
}

fn an_assets_directory_without_a_page_is_reported() {
    let (assets, daemon) = with_assets();
    let css = "main { color: red }";
    block_on(async {
        let head = async |path: &str| {
            let answer = request(Method::HEAD, &daemon.url(path), &[])
                .await
                .expect("an answer");
            answer.header("content-length").map(str::to_owned)
        };
        let page = daemon.get("/").await.text();
        assert_eq!(head("/").await, Some(page.len().to_string()));
        // /about links the assets that exist.
        let about = async || {
            get(&daemon.url("/about"), &[("accept", "text/html")])
                .await
                .text()
        };
        let link = "href=\"./assets/style.css\"";
        assert!(!about().await.contains(link), "it would be a 404");
        fs::write(assets.path().join("style.css"), css).expect("written");
        assert!(about().await.contains(link));
        assert_eq!(head("/assets/style.css").await, Some(css.len().to_string()));

        fs::remove_file(assets.path().join("index.html")).expect("removed");
        for _ in 0..3 {
            let answer = daemon.get("/").await;
            assert_eq!(answer.status, 404);
            let text = answer.text();
            assert!(text.contains("index.html") && text.contains("/about"), "{text}");
            assert!(!text.contains("did you mean"), "{text}");
            let directory = assets.path().to_str().expect("UTF-8");
            assert!(!text.contains(directory), "{text}");
        }
        let text = daemon.get("/assets/none.js").await.text();
        assert!(!text.contains("index.html"), "{text}");
        let warning = format!(
            "{}: holds no index.html that can be read",
            assets.path().display()
        );
        daemon.wait_log(&warning, secs(10));
        assert_eq!(daemon.log().matches(&warning).count(), 1, "once in a while");
    });
}

fn accept_encoding_weights_are_honoured() {
    let daemon = Daemon::start(&config(""));
    block_on(async {
        for (path, accept, content_type) in [
            ("/metrics", "*/*", "text/plain"),
            (
                "/metrics",
                "application/openmetrics-text;q=0, text/plain",
                "text/plain",
            ),
            (
                "/metrics",
                "application/openmetrics-text;version=1.0.0;q=0.5, text/plain;q=0.6",
                "text/plain",
            ),
            (
                "/metrics",
                "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                "application/openmetrics-text",
            ),
            ("/about", "application/json;q=0", "text/html"),
            ("/about", "application/json", "application/json"),
            ("/about", "application/json, text/plain, */*", "application/json"),
            ("/about", "text/html;q=0.5, application/json", "application/json"),
            ("/about", "text/html, application/json;q=0.9", "text/html"),
            ("/about", "*/*", "text/html"),
        ] {
            let answer = get(&daemon.url(path), &[("accept", accept)]).await;
            let header = answer.header("content-type").unwrap_or_default();
            assert!(header.starts_with(content_type), "{path} {accept}: {header}");
        }
    });
}

/// A daemon that serves a directory with an index.html, and that directory.
fn with_assets() -> (TempDir, Daemon) {
    let assets = tempfile::tempdir().expect("a directory");
    fs::write(assets.path().join("index.html"), "<h1>{{title}}</h1>").expect("written");
    let daemon = Daemon::with(&config(""))
        .arg("--assets")
        .arg(assets.path())
        .start();
    (assets, daemon)
}

fn an_edited_asset_is_served_at_the_next_request() {
    let (assets, daemon) = with_assets();
    block_on(async {
        // Of one length, and within one tick of the file system's clock.
        for round in 100..150 {
            for (file, path) in [("index.html", "/"), ("app.js", "/assets/app.js")] {
                let text = format!("edit {round}");
                fs::write(assets.path().join(file), &text).expect("written");
                let zipped = get(&daemon.url(path), &[("accept-encoding", "gzip")]).await;
                assert_eq!(zipped.text(), text);
            }
        }
        settled(&daemon, "/assets/app.js").await;
        assert_eq!(daemon.get("/assets/app.js").await.text(), "edit 149");
        let etag = daemon
            .get("/assets/app.js")
            .await
            .header("etag")
            .map(str::to_owned);
        fs::write(assets.path().join("app.js"), "edit 150").expect("written");
        let condition = [("if-none-match", etag.as_deref().expect("an ETag"))];
        let fresh = get(&daemon.url("/assets/app.js"), &condition).await;
        assert_eq!((fresh.status, fresh.text().as_str()), (200, "edit 150"));
        fs::remove_file(assets.path().join("app.js")).expect("removed");
        assert_eq!(daemon.get("/assets/app.js").await.status, 404);
    });
}

/// Waits until a file is old enough to be kept: it has an ETag then.
async fn settled(daemon: &Daemon, path: &str) {
    eventually_async(secs(30), "the file is old enough", async || {
        let head = request(Method::HEAD, &daemon.url(path), &[]).await;
        let head = head.map_err(|error| error.to_string())?;
        head.header("etag")
            .map(drop)
            .ok_or_else(|| "it is not".to_owned())
    })
    .await;
}

/// Bytes that the process has read by read(2) so far (proc(5), `io`).
fn read_so_far(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("its figures");
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|line| line.parse().ok()).expect("a number")
}

/// Text that compresses to about half, of so many bytes.
fn text_of(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"0123456789abcdef"[(state >> 28) as usize]
    });
    letters.take(length).collect()
}

/// Connections that have asked for the file and read nothing of it.
fn hungry(daemon: &Daemon, path: &str, count: usize) -> Vec<TcpStream> {
    let connections = (0..count).map(|_| {
        let mut connection = TcpStream::connect(("127.0.0.1", daemon.port())).expect("connected");
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).expect("sent");
        connection
    });
    let connections: Vec<TcpStream> = connections.collect();
    for connection in &connections {
        connection.set_read_timeout(Some(secs(60))).expect("a timeout");
        // Its answer has begun.
        assert_eq!(connection.peek(&mut [0]).expect("an answer"), 1);
    }
    connections
}

fn an_asset_is_read_and_compressed_once() {
    const SIZE: usize = 5_000_000;
    let (assets, daemon) = with_assets();
    let text = text_of(SIZE);
    fs::write(assets.path().join("big.js"), &text).expect("written");
    block_on(settled(&daemon, "/assets/big.js"));
    let (resident, read) = (memory::resident(daemon.pid()), read_so_far(daemon.pid()));
    memory::reset_peak(daemon.pid());
    let mut connections = hungry(&daemon, "/assets/big.js", 100);
    let grown = memory::peak(daemon.pid()).saturating_sub(resident);
    println!(
        "100 connections on 5 MB: {:.0} MiB more",
        memory::mebibytes(grown)
    );
    assert!(grown < 64 << 20, "{:.0} MiB", memory::mebibytes(grown));
    let mut bodies = connections.iter_mut().map(|connection| {
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).expect("all of it");
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        answer.split_off(end.expect("a head") + 4)
    });
    let first = bodies.next().expect("one of them");
    assert!(bodies.all(|body| body == first), "they differ");
    let mut plain = Vec::new();
    GzDecoder::new(first.as_slice())
        .read_to_end(&mut plain)
        .expect("gzip");
    assert!(plain == text, "other bytes");
    block_on(async {
        let url = daemon.url("/assets/big.js");
        for coding in ["gzip", "identity"] {
            let coding = ("accept-encoding", coding);
            let head = request(Method::HEAD, &url, &[coding]).await.expect("a head");
            let etag = head.header("etag").expect("an ETag").to_owned();
            assert!(head.header("content-length").is_some());
            let known = get(&url, &[coding, ("if-none-match", &etag)]).await;
            assert_eq!((known.status, known.header("etag")), (304, Some(etag.as_str())));
        }
    });
    let read = read_so_far(daemon.pid()) - read;
    assert!(read < 2 * SIZE as u64, "read once, not {read} bytes");
}

fn an_asset_too_large_to_keep_is_streamed_from_disk() {
    const SIZE: usize = 40_000_000;
    let (assets, daemon) = with_assets();
    let text = text_of(SIZE);
    fs::write(assets.path().join("huge.bin"), &text).expect("written");
    block_on(settled(&daemon, "/assets/huge.bin"));
    let resident = memory::resident(daemon.pid());
    memory::reset_peak(daemon.pid());
    let connections = hungry(&daemon, "/assets/huge.bin", 50);
    block_on(async {
        let url = daemon.url("/assets/huge.bin");
        let head = request(Method::HEAD, &url, &[]).await.expect("a head");
        assert_eq!(head.header("content-length"), Some("40000000"));
        let whole = get(&url, &[("accept-encoding", "gzip")]).await;
        assert_eq!(whole.header("content-length"), Some("40000000"));
        assert_eq!(whole.header("content-encoding"), None);
        assert!(whole.body == text, "other bytes");
    });
    let grown = memory::peak(daemon.pid()).saturating_sub(resident);
    println!(
        "51 connections on 40 MB: {:.0} MiB more",
        memory::mebibytes(grown)
    );
    assert!(grown < 64 << 20, "{:.0} MiB", memory::mebibytes(grown));
    drop(connections);
}
