//! What axe-core says of the page: every view and state of it, light and dark, on a desktop and a phone.

use super::{Look, filter_bars, second_of, setup};
use crate::auth::{File, make_token};
use crate::common::table;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::followers::Runtime;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use serde_json::json;
use std::fs;

pub fn trials() -> Vec<Trial> {
    let is_missing = Runtime::Node.is_missing();
    [
        on_broker(Version::V4_4, axe_finds_nothing_in_any_view),
        on_broker(Version::V4_4, axe_finds_nothing_where_there_is_nothing_to_show),
    ]
    .map(|trial| trial.with_ignored_flag(is_missing))
    .into()
}

/// A browser in which axe-core examines pages. The script comes by WebDriver, past the page's Content-Security-Policy.
struct Audit {
    browser: Browser,
    axe: String,
    /// Of pages in a look.
    examined: usize,
    violations: Vec<String>,
}

/// The rules that axe-core has on by default, which are those of WCAG A and AA and best practices, and the size of targets of WCAG 2.2.
const RUN: &str = "
    const done = arguments[arguments.length - 1];
    axe.run(document, { rules: { 'target-size': { enabled: true } }, resultTypes: ['violations'] }).then(
        ({ violations, passes }) => done({
            passed: passes.length,
            violations: violations.flatMap(({ id, help, nodes }) => nodes.map(({ target, html, failureSummary }) =>
                `${id} (${help}): ${target.join(' ')}: ${html.slice(0, 200)}: ${failureSummary}`)),
        }),
        (error) => done({ error: String(error) }),
    );";

impl Audit {
    async fn start() -> Audit {
        let file = Runtime::Node.home().join("node_modules/axe-core/axe.min.js");
        Audit {
            browser: Browser::start().await,
            axe: fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())),
            examined: 0,
            violations: Vec::new(),
        }
    }

    /// Opens a page of a daemon, and waits until a script's expression is true of it.
    async fn open(&self, daemon: &Daemon, link: &str, until: &str) {
        // With another fragment alone, it would be the same document.
        self.browser.goto("about:blank").await;
        self.browser.goto(&daemon.url(link)).await;
        self.until(until).await;
    }

    async fn act(&self, script: &str, until: &str) {
        self.browser.run(script).await;
        self.until(until).await;
    }

    async fn until(&self, expression: &str) {
        let script = format!(
            "const shown = (all) => [...document.querySelectorAll(all)].some((each) => each.checkVisibility());
             return Boolean({expression})"
        );
        eventually_async(secs(30), expression, async || {
            let holds = self.browser.run(&script).await;
            let page = "return document.body?.innerText.slice(0, 2000)";
            ensure(holds == json!(true), self.browser.run(page).await.to_string())
        })
        .await;
    }

    /// Has what is shown now examined in each look.
    async fn examine(&mut self, what: &str) {
        for look in Look::ALL {
            look.put_on(&self.browser).await;
            let is_there = self.browser.run("return 'axe' in window").await;
            if is_there == json!(false) {
                // At the top of the script, it would be this function's alone.
                let script = format!("{}\nwindow.axe = axe;", self.axe);
                self.browser.run(&script).await;
            }
            let result = self.browser.client.execute_async(RUN, Vec::new()).await;
            let result = result.unwrap_or_else(|error| panic!("{what}, {look:?}: {error}"));
            let violations = result["violations"]
                .as_array()
                .unwrap_or_else(|| panic!("{what}: {result}"));
            assert!(
                result["passed"].as_u64() > Some(10),
                "{what}: hardly any rule applies: {result}"
            );
            let named = violations
                .iter()
                .map(|violation| format!("{what}, {look:?}: {}", violation.as_str().unwrap_or_default()));
            self.violations.extend(named);
            self.examined += 1;
        }
        Look::DESKTOP.put_on(&self.browser).await;
    }

    async fn close(self) {
        self.browser.close().await;
        let all = self.violations.join("\n");
        assert!(all.is_empty(), "{} pages were examined:\n{all}", self.examined);
    }
}

const VIEWS: &str = r#"
[[stream.view]]
kind = "table"
title = "Continents"
columns = [
    { path = "continent", label = "Continent" },
    { path = "nrs", label = "Countries", format = "list", items = [
        { path = "name" }, { path = "size", format = "number", unit = "km²", bar = true },
    ] },
]
[[stream.view]]
kind = "cards"
columns = [
    { path = "continent" },
    { path = "nrs.0.name", format = "badge", colors = { NL = "good" } },
    { path = "nrs.0.size", label = "Size", format = "number", bar = true },
    { path = "@changed", label = "Changed", format = "relative" },
]
"#;

/// Two streams with records, one of them of a topic that does not exist, too.
fn filled(broker: &Broker) -> Daemon {
    let (continents, text) = setup(broker, "", VIEWS);
    broker.produce(&continents, &[table("Asia", &["CN", "IN"])]);
    let topic = topic_name("accessible");
    broker.create_topic(&topic, 1, &[]);
    let order = |number: u32, status: &str| {
        let value = format!(
            r#"{{"status":"{status}","total":{number}.5,"customer":{{"name":"Customer {number}","tags":[1,{{"a":null}}]}},"paid":{},
               "at":"2026-10-29T12:00:00Z","site":"https://example.org/{number}","note":null,"list":["a","b"]}}"#,
            number.is_multiple_of(2)
        );
        Message::new(number.to_string(), value)
    };
    let orders: Vec<Message> = (1..=30)
        .map(|number| order(number, ["paid", "pending", "failed"][(number % 3) as usize]))
        .collect();
    broker.produce(&topic, &orders);
    broker.produce(&topic, &[order(3, "pending"), Message::tombstone("4")]);
    let missing = topic_name("missing");
    Daemon::start(&format!(
        "{text}[[stream]]\npath = \"/orders\"\ntopics = [{topic:?}, {missing:?}]\nkey_field = \"order\"\nstart = \"earliest\"\n\
         partition_field = \"partition\"\noffset_field = \"offset\"\n"
    ))
}

fn axe_finds_nothing_in_any_view(broker: &Broker) {
    let daemon = filled(broker);
    block_on(async {
        let mut audit = Audit::start().await;
        examine_home(&mut audit, &daemon).await;
        examine_tables(&mut audit, &daemon).await;
        examine_feeds(&mut audit, &daemon).await;
        examine_charts(&mut audit, &daemon).await;
        drop(daemon);
        audit
            .until("document.querySelector('.sign-state').dataset.state === 'reconnecting'")
            .await;
        audit.examine("kiosk that reconnects").await;
        audit.close().await;
    });
}

async fn examine_home(audit: &mut Audit, daemon: &Daemon) {
    audit
        .open(daemon, "/", "shown('.problem') && shown('.spark')")
        .await;
    audit.examine("home").await;
    audit
        .act("document.querySelector('#help').click()", "shown('#keys')")
        .await;
    audit.examine("keys").await;
    audit.open(daemon, "/about", "document.querySelector('h1')").await;
    audit.examine("about").await;
}

async fn examine_tables(audit: &mut Audit, daemon: &Daemon) {
    audit
        .open(
            daemon,
            "/#/orders?view=table",
            "document.querySelectorAll('.grid tbody tr').length > 5",
        )
        .await;
    audit.examine("table").await;
    audit
        .act(
            "document.querySelector('.grid tbody tr td').click()",
            "shown('.row-panel .json')",
        )
        .await;
    audit.examine("table with a row open").await;
    audit
        .act(
            "document.querySelector('.column-menu-of button').click()",
            "shown('.column-menu')",
        )
        .await;
    audit.examine("table with the columns' menu open").await;
    audit
        .open(
            daemon,
            "/#/orders?view=table&q=nowhere&sort=-total",
            "shown('.table-empty')",
        )
        .await;
    audit.examine("table whose search finds nothing").await;
    audit
        .open(
            daemon,
            "/?kiosk#/orders?view=table",
            "document.querySelectorAll('.grid tbody tr').length > 5",
        )
        .await;
    audit.examine("table in a kiosk").await;

    audit
        .open(
            daemon,
            "/#/topn/updates",
            "document.querySelectorAll('.grid tbody tr').length === 2",
        )
        .await;
    audit.examine("table of lists").await;
    audit
        .open(
            daemon,
            "/?kiosk#/topn/updates",
            "document.querySelectorAll('.grid tbody tr').length === 2",
        )
        .await;
    audit.examine("table of lists in a kiosk").await;
    audit
        .open(
            daemon,
            "/#/topn/updates?view=cards",
            "document.querySelectorAll('.row-card').length === 2",
        )
        .await;
    audit.examine("cards").await;
}

async fn examine_feeds(audit: &mut Audit, daemon: &Daemon) {
    let is_fed = "document.querySelectorAll('.feed-row[data-kind=message]').length > 5";
    audit.open(daemon, "/#/orders?view=feed", is_fed).await;
    audit.examine("feed").await;
    audit
        .act(
            "document.querySelector('.filter-input').focus()",
            "shown('.filter-list')",
        )
        .await;
    audit.examine("feed with the filters' completion open").await;
    audit
        .act(
            "document.activeElement.blur(); document.querySelector('.feed-download summary').click()",
            "shown('.feed-download button')",
        )
        .await;
    audit.examine("feed with the downloads open").await;
    audit
        .act(
            "document.querySelector('.feed-connect').click()",
            "shown('.connect')",
        )
        .await;
    audit.examine("snippets").await;
    audit
        .open(
            daemon,
            "/#/orders?view=feed&f.key=3&show=changes&key=3",
            "shown('.changes') && shown('.chip')",
        )
        .await;
    audit
        .act(
            "document.querySelector('.feed-pause').click()",
            "shown('.feed-pause[data-paused]')",
        )
        .await;
    audit
        .examine("feed with a filter, changes, an event chosen, paused")
        .await;
    filter_bars::filter(&audit.browser, "header.x=1").await;
    filter_bars::filter(&audit.browser, "nothing").await;
    audit
        .until("document.querySelector('.filter-problem').textContent")
        .await;
    audit.examine("feed with a filter that cannot be").await;
}

async fn examine_charts(audit: &mut Audit, daemon: &Daemon) {
    let is_drawn = "document.querySelector('.chart canvas') && shown('.chart-line')";
    audit
        .open(
            daemon,
            "/#/orders?view=chart&field=value.total&group=value.status",
            is_drawn,
        )
        .await;
    audit.examine("chart").await;
    audit
        .act(
            "document.querySelector('.chart-line').click()",
            "shown('.chart-line[aria-pressed=false]')",
        )
        .await;
    audit.examine("chart with a line hidden").await;
    audit.open(daemon, "/?kiosk#/orders?view=chart", is_drawn).await;
    audit.examine("chart in a kiosk").await;
}

fn axe_finds_nothing_where_there_is_nothing_to_show(broker: &Broker) {
    let topic = topic_name("empty");
    broker.create_topic(&topic, 1, &[]);
    let (_, text) = setup(broker, "", "");
    let others = format!(
        "[[stream]]\npath = \"/users/{{id}}/orders\"\ntopics = [{topic:?}]\nkey_field = \"order\"\nfilter = {{ key = [\"{{id}}\"] }}\n\
         [[stream]]\npath = \"/empty\"\ntopics = [{topic:?}]\nkey_field = \"order\"\nhide = [\"card\"]\n"
    );
    let daemon = Daemon::start(&format!("{text}{others}"));
    let (_, line) = make_token(&["reader"]);
    let tokens = File::new("tokens", line);
    let (_, closed) = setup(broker, "", "");
    let closed = format!(
        "{closed}{}[auth.tokens]\nfile = {:?}\n[ui]\nlogin_url = \"/login\"\naccent = \"#ffcc00\"\n",
        second_of(&closed),
        tokens.path()
    );
    let closed = Daemon::start(&closed);
    block_on(async {
        let mut audit = Audit::start().await;
        audit
            .open(&daemon, "/#/users/7/orders/9", "shown('.panel')")
            .await;
        audit.examine("no such stream").await;
        audit
            .open(&daemon, "/#/users/{id}/orders", "shown('.parameters')")
            .await;
        audit.examine("a path with parameters").await;
        for view in ["table", "feed", "chart"] {
            let is_live = "shown('[data-state=live]') && shown('.table-empty, .feed-list, .chart-figure')";
            audit
                .open(&daemon, &format!("/#/empty?view={view}"), is_live)
                .await;
            audit.examine(&format!("empty {view}")).await;
        }
        audit
            .open(
                &daemon,
                "/#/empty?view=feed&f.value.card=1",
                "shown('[data-state=refused]')",
            )
            .await;
        audit.examine("refused").await;
        audit
            .open(
                &daemon,
                "/#/topn/updates",
                "shown('[data-state=live]') && shown('.grid tbody tr')",
            )
            .await;
        drop(daemon);
        audit.until("shown('.notice')").await;
        audit.examine("reconnecting").await;
        audit.act("location.hash = '#/'", "shown('.card')").await;
        audit.until("shown('.notice')").await;
        audit.examine("home without the server").await;

        audit.open(&closed, "/", "shown('#token-form')").await;
        audit.examine("home for somebody unknown").await;
        audit.open(&closed, "/#/other", "shown('#token-form')").await;
        audit.examine("a stream for somebody unknown").await;
        audit.close().await;
    });
}
