//! The page as its owner wants it: a logo, header fields, and the built-in page as a start for one's own.

use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::http::{Response, get};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::pages::{config, daemon};
use crate::reload::reloaded;
use crate::trials;
use libtest_mimic::Trial;
use std::fs;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<Trial> {
    trials![
        the_pages_header_fields_are_those_of_the_settings,
        the_logo_is_served_and_read_again_when_it_changes,
        the_looks_of_the_page_are_put_into_it,
        the_built_in_page_is_written_out_and_works_the_same,
        a_page_that_is_there_is_overwritten_on_request_only,
    ]
}

const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";

fn policy(answer: &Response) -> &str {
    answer.header("content-security-policy").unwrap_or_default()
}

fn the_pages_header_fields_are_those_of_the_settings() {
    let directory = tempfile::tempdir().expect("a directory");
    let logo = directory.path().join("logo.svg");
    fs::write(&logo, SVG).expect("written");
    fs::write(directory.path().join("index.html"), "<h1>{{title}}</h1>").expect("written");
    let ui = format!("[ui]\nlogo = \"{}\"\n", logo.display());
    let text = config(&ui);
    let built_in = Daemon::start(&text);
    let own = Daemon::with(&text).arg("--assets").arg(directory.path()).start();
    let usual = "default-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'";
    block_on(async {
        for daemon in [&built_in, &own] {
            for path in ["/", "/assets/logo", "/about"] {
                let answer = get(&daemon.url(path), &[("accept", "text/html")]).await;
                assert_eq!((answer.status, policy(&answer)), (200, usual), "{path}");
                assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
                assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
                let permissions = answer.header("permissions-policy").unwrap_or_default();
                for feature in ["camera=()", "microphone=()", "geolocation=()", "usb=()"] {
                    assert!(permissions.contains(feature), "{path}: {permissions}");
                }
            }
            let before = daemon.get("/").await;
            for (ancestors, expected) in [
                (
                    "[\"https://intranet.example.org\"]",
                    "frame-ancestors 'self' https://intranet.example.org;",
                ),
                ("[\"none\"]", "frame-ancestors 'none';"),
            ] {
                reloaded(
                    daemon,
                    &format!("{text}frame_ancestors = {ancestors}\n"),
                    "ui.frame_ancestors",
                );
                // A browser that has the page must not go on by the header fields that it had.
                let condition = before.header("etag").unwrap_or("\"young\"");
                for path in ["/", "/about"] {
                    let headers = [("accept", "text/html"), ("if-none-match", condition)];
                    let answer = get(&daemon.url(path), &headers).await;
                    assert_eq!(answer.status, 200, "{path}");
                    assert!(policy(&answer).contains(expected), "{path}: {}", policy(&answer));
                }
            }
        }
    });
}

fn the_logo_is_served_and_read_again_when_it_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let logo = directory.path().join("logo.svg");
    fs::write(&logo, SVG).expect("written");
    let with = daemon(&format!("[ui]\nlogo = \"{}\"\n", logo.display()));
    block_on(async {
        let answer = with.get("/assets/logo").await;
        assert_eq!(
            (
                answer.status,
                answer.header("content-type"),
                answer.text().as_str()
            ),
            (200, Some("image/svg+xml"), SVG)
        );
        let changed = SVG.replace("/>", "></svg>");
        fs::write(&logo, &changed).expect("written");
        assert_eq!(with.get("/assets/logo").await.text(), changed);
        // Nothing else of its directory.
        assert_eq!(with.get("/assets/logo.svg").await.status, 404);
        fs::remove_file(&logo).expect("removed");
        assert_eq!(with.get("/assets/logo").await.status, 404);
        assert_eq!(
            daemon("").get("/assets/logo").await.status,
            404,
            "none is configured"
        );
    });
}

fn the_looks_of_the_page_are_put_into_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let page = "{{title}}|{{logo}}|{{accent}}|{{default_view}}|{{unknown}}|{{login_url}}";
    fs::write(directory.path().join("index.html"), page).expect("written");
    let logo = directory.path().join("l.png");
    fs::write(&logo, "x").expect("written");
    let with_page = |ui: &str| {
        Daemon::with(&config(ui))
            .arg("--assets")
            .arg(directory.path())
            .start()
    };
    let none = with_page("");
    let all = with_page(&format!(
        "[ui]\ntitle = \"{{{{accent}}}} & more\"\nlogo = \"{}\"\naccent = \"#0f6b74\"\n\
         default_view = \"/topn/updates?view=feed&key=1\"\nlogin_url = \"/login\"\n",
        logo.display()
    ));
    block_on(async {
        assert_eq!(none.get("/").await.text(), "kafka-sse-bridge||||{{unknown}}|");
        assert_eq!(
            all.get("/").await.text(),
            "{{accent}} &amp; more|assets/logo|#0f6b74|/topn/updates?view=feed&amp;key=1|{{unknown}}|/login"
        );
        let logo = all.get("/assets/logo").await;
        assert_eq!(logo.header("content-type"), Some("image/png"));
    });
}

/// All files below a directory, by their paths in it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(directory).expect("below it").to_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

fn written(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run_to_end(&[&["assets"], arguments].concat(), &[]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("UTF-8"))
}

fn the_built_in_page_is_written_out_and_works_the_same() {
    let scratch = tempfile::tempdir().expect("a directory");
    let page = scratch.path().join("new/page");
    let name = page.to_str().expect("UTF-8");
    let (code, said) = written(&[name]);
    assert_eq!(code, Some(0), "{said}");
    let files = files(&page);
    for file in ["index.html", "style.css", "favicon.svg"] {
        assert!(files.contains(&PathBuf::from(file)), "{files:?}");
        assert!(said.contains(&format!("  {file}\n")), "{said}");
    }
    assert!(
        said.contains(&format!("wrote {} files", files.len())) && said.contains(&format!("--assets {name}")),
        "{said}"
    );
    let index = fs::read_to_string(page.join("index.html")).expect("the page");
    assert!(index.contains("{{title}}"), "it is to be filled: {index}");

    let built_in = daemon("");
    let own = Daemon::with(&config("")).arg("--assets").arg(&page).start();
    block_on(async {
        let paths = files.iter().map(|file| match file.to_str().expect("UTF-8") {
            "index.html" => "/".to_owned(),
            file => format!("/assets/{file}"),
        });
        for path in paths.chain(["/favicon.ico".to_owned()]) {
            let (one, other) = (built_in.get(&path).await, own.get(&path).await);
            assert_eq!((one.status, other.status), (200, 200), "{path}");
            // The binary's own scripts and styles have no comments.
            let is_slimmed = [".js", ".css"].iter().any(|ending| path.ends_with(ending));
            assert!(one.body == other.body || is_slimmed, "{path}");
            assert!(one.body.len() <= other.body.len(), "{path}");
            for header in ["content-type", "content-security-policy", "permissions-policy"] {
                assert_eq!(one.header(header), other.header(header), "{path}: {header}");
            }
        }
        for path in [
            "/assets/client/package.json",
            "/assets/client/README.md",
            "/assets/package.json",
        ] {
            assert_eq!(built_in.get(path).await.status, 404, "{path}");
        }
        // An edit shows.
        fs::write(page.join("index.html"), "mine").expect("written");
        eventually_async(secs(10), "the edit", async || {
            let text = own.get("/").await.text();
            ensure(text == "mine", text)
        })
        .await;
    });
}

fn a_page_that_is_there_is_overwritten_on_request_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().to_str().expect("UTF-8");
    fs::write(directory.path().join("style.css"), "mine").expect("written");
    fs::write(directory.path().join("other.txt"), "mine").expect("written");
    let (code, said) = written(&[name]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("style.css exists, so nothing was written") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(files(directory.path()).len(), 2, "nothing was written");
    let (code, said) = written(&[name, "--force"]);
    assert_eq!(code, Some(0), "{said}");
    let text = |file: &str| fs::read_to_string(directory.path().join(file)).expect("a file");
    assert_ne!(text("style.css"), "mine");
    assert_eq!(text("other.txt"), "mine", "it is none of the page's");
    let (code, said) = written(&["/proc/none/page"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot be written"), "{said}");
}
