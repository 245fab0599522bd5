//! What is wrong, in plain words, and what to do about it. Pure: it reads a snapshot of the nodes' view and some numbers.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Troubles of one kind that are told one by one; of further ones their number.
pub const MAX_TOLD: usize = 20;

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Nothing is wrong.
    pub ok: bool,
    /// In one line.
    pub summary: String,
    /// What is wrong.
    pub troubles: Vec<Trouble>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// What the collector counted since its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// Certificates and tokens that could not be read again.
    pub failed_files: u64,
    /// Reports whose credentials were not valid.
    pub strangers: u64,
    /// Connections closed because their port had as many as it may.
    pub refused_connections: u64,
    /// Batches of the kept state that could not be written.
    pub unwritten: u64,
}

impl fmt::Display for Status {
    /// For people: what is wrong line by line, each with what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        for Trouble { what, hint } in &self.troubles {
            write!(f, "\n- {what}\n  hint: {hint}\n")?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Told(Vec<Trouble>);

impl Told {
    fn list(&mut self, kind: &str, hint: &str, all: Vec<String>) {
        let more = all.len().saturating_sub(MAX_TOLD);
        let told = all.into_iter().take(MAX_TOLD);
        self.0.extend(told.map(|what| Trouble { what, hint: hint.to_owned() }));
        if more > 0 {
            self.0.push(Trouble { what: format!("{more} more {kind}"), hint: hint.to_owned() });
        }
    }
}

/// Looks for what is wrong; `now_ms` is the collector's clock.
#[must_use]
pub fn judge(snapshot: &Value, counted: Counted, now_ms: i64) -> Status {
    let nodes = snapshot["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |node: &Value| node["name"].as_str().unwrap_or("?").to_owned();
    let texts = |value: &Value| -> Vec<Value> { value.as_array().cloned().unwrap_or_default() };
    let mut told = Told::default();
    if nodes.is_empty() {
        let hint = "start an agent on every node with --collector and this collector's report address; if they run, their log \
                    says why they do not get here";
        told.list("", hint, vec!["no agent has reported".to_owned()]);
    }
    let silent = nodes.iter().filter(|node| matches!(node["state"].as_str(), Some("late" | "lost")));
    let silent = silent.map(|node| {
        let seconds = now_ms.saturating_sub(node["last_report_ms"].as_i64().unwrap_or(now_ms)) / 1_000;
        format!("node {} is silent for {seconds} s", name(node))
    });
    let hint = "is the agent there running (`orrery-agent health`), and does it reach the report port? Its log says so";
    told.list("silent nodes", hint, silent.collect());
    let lossy = nodes.iter().filter(|node| node["state"] == "lossy").map(|node| {
        let why = node["why"].as_str().unwrap_or("telemetry was lost within the last minute");
        format!("node {} is lossy: {why}", name(node))
    });
    told.list("lossy nodes", "docs/operating.md, Causes of lost telemetry", lossy.collect());
    let odd = nodes.iter().filter(|node| node["state"] == "live");
    let odd = odd.filter_map(|node| Some(format!("node {}: {}", name(node), node["why"].as_str()?)));
    let hint = "each node's agent needs a name of its own: --node, or the downward API's spec.nodeName; of two the older run is \
                refused after ten minutes";
    told.list("nodes of one name", hint, odd.collect());
    let blind = nodes.iter().flat_map(|node| {
        texts(&node["blind_spots"]).into_iter().map(move |spot| {
            let text = |key: &str| spot[key].as_str().map(str::to_owned);
            let device =
                text("device").or_else(|| spot.as_str().map(str::to_owned)).unwrap_or_else(|| "a device".to_owned());
            let why = text("reason").or_else(|| text("why")).map_or_else(String::new, |why| format!(": {why}"));
            format!("node {} does not see {device}{why}", name(node))
        })
    });
    told.list("blind spots", "docs/kernel.md, Tiers: what each device grants, and what it takes", blind.collect());
    let unaccounted = nodes.iter().filter(|node| node["unaccounted_skbs"].as_i64().unwrap_or(0) != 0);
    let unaccounted = unaccounted
        .map(|node| format!("node {} counts {} packets that nothing explains", name(node), node["unaccounted_skbs"]));
    told.list("nodes with unexplained packets", "this is a bug: please report it", unaccounted.collect());
    let names = &snapshot["names"];
    if names["state"] == "stale" || names["error"].is_string() {
        let why = names["error"].as_str().unwrap_or("their source does not answer");
        let hint = "the last good names stay in use; mend the file, or the collector's way to the Kubernetes API and its rights";
        told.list("", hint, vec![format!("names are not fresh: {why}")]);
    }
    if counted.failed_files > 0 {
        let what =
            format!("a file of certificates or tokens changed {} times and could not be used", counted.failed_files);
        told.list(
            "",
            "the collector's log names the file and what is wrong with it; what was read before is in use",
            vec![what],
        );
    }
    if counted.strangers > 0 {
        let what = format!("{} reports had credentials that are not valid", counted.strangers);
        told.list(
            "",
            "the collector's log tells from where, under `audit`; an agent's token or certificate may be an old one",
            vec![what],
        );
    }
    if counted.refused_connections > 0 {
        let what = format!(
            "{} connections were closed at once: their port had as many as it may",
            counted.refused_connections
        );
        let hint = "orrery_collector_serve_refused_connections_total tells which port; who holds so many (a network policy \
                    keeps strangers away), or may the process open too few files (`ulimit -n`, LimitNOFILE)?";
        told.list("", hint, vec![what]);
    }
    if counted.unwritten > 0 {
        let what = format!("{} times the state could not be written", counted.unwritten);
        let hint = "the collector's log says why: a full disk, or --state-max; the live picture goes on, and all is written \
                    once there is room";
        told.list("", hint, vec![what]);
    }
    let live = nodes.iter().filter(|node| matches!(node["state"].as_str(), Some("live" | "lossy"))).count();
    let troubles = told.0;
    let wrong = match troubles.len() {
        0 => "all is well".to_owned(),
        1 => "one thing is wrong".to_owned(),
        many => format!("{many} things are wrong"),
    };
    Status { ok: troubles.is_empty(), summary: format!("{live} of {} nodes report; {wrong}", nodes.len()), troubles }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Counted, MAX_TOLD, judge};

    #[test]
    fn all_is_well_only_where_it_is() {
        let node = |name: &str, state: &str| json!({ "name": name, "state": state, "last_report_ms": 1_000, "blind_spots": [] });
        let well = json!({ "nodes": [node("n1", "live")], "names": { "state": "fresh", "error": null } });
        let status = judge(&well, Counted::default(), 2_000);
        assert!(status.ok && status.summary == "1 of 1 nodes report; all is well", "{status:?}");
        let none = judge(&json!({ "nodes": [] }), Counted::default(), 0);
        assert!(!none.ok && none.troubles[0].what == "no agent has reported");
        let mut twice = node("n3", "live");
        twice["why"] = json!("two agents report under this name");
        let mut odd = node("n2", "lossy");
        odd["blind_spots"] = json!([{ "device": "nk0", "reason": "netkit" }]);
        odd["unaccounted_skbs"] = json!(3);
        let ill = json!({
            "nodes": [node("n1", "lost"), odd, twice],
            "names": { "state": "stale", "error": "pods.json: parse pod list" },
        });
        let status =
            judge(&ill, Counted { failed_files: 1, strangers: 2, refused_connections: 3, unwritten: 4 }, 61_000);
        let all = status.troubles.iter().map(|trouble| trouble.what.as_str()).collect::<Vec<_>>().join("\n");
        for words in [
            "node n1 is silent for 60 s",
            "node n2 is lossy",
            "node n3: two agents",
            "node n2 does not see nk0: netkit",
            "node n2 counts 3 packets",
            "names are not fresh: pods.json",
            "changed 1 times",
            "2 reports had",
            "3 connections were closed",
            "4 times the state",
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
        assert!(status.troubles.iter().all(|trouble| !trouble.hint.is_empty()));
        let text = status.to_string();
        assert!(text.starts_with("2 of 3"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("  hint: ")).count(), 10, "{text}");
        assert!(status.summary.contains("10 things are wrong"), "{}", status.summary);
    }

    #[test]
    fn a_cluster_that_is_down_is_told_in_few_lines() {
        let nodes: Vec<_> = (0..100).map(|n| json!({ "name": format!("n{n}"), "state": "lost" })).collect();
        let status = judge(&json!({ "nodes": nodes }), Counted::default(), 0);
        assert_eq!(status.troubles.len(), MAX_TOLD + 1);
        assert!(status.troubles[MAX_TOLD].what.starts_with("80 more"));
    }
}
