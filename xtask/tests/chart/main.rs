//! The chart and the manifests: rendered by Helm's own engine, decoded strictly by Kubernetes' own types, and held
//! against what they promise.

mod manifests;
mod units;

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Value, json};

use manifests::{check, find, lint, objects, root, texts};

/// Every value of the chart, and another one for it (with what must be set for it to matter).
fn toggles() -> Vec<(&'static str, Value, Value)> {
    let none = || json!({});
    let exposed = || json!({ "collector": { "page": { "expose": true } } });
    let ingress = || json!({ "collector": { "page": { "expose": true, "ingress": { "enabled": true } } } });
    let monitor =
        || json!({ "collector": { "page": { "expose": true } }, "metrics": { "serviceMonitor": { "enabled": true } } });
    let pods =
        || json!({ "collector": { "page": { "expose": true } }, "metrics": { "podMonitor": { "enabled": true } } });
    let hubble = || json!({ "collector": { "hubble": { "enabled": true } } });
    let cidrs = || json!({ "networkPolicy": { "nodeCIDRs": ["192.0.2.0/24"] } });
    let policy = || {
        json!({ "collector": { "page": { "expose": true } },
                "networkPolicy": { "flavour": "kubernetes", "nodeCIDRs": ["192.0.2.0/24"] } })
    };
    let digest = || json!(format!("sha256:{}", "0".repeat(64)));
    let mut table = vec![
        ("nameOverride", json!("other"), none()),
        ("fullnameOverride", json!("other"), none()),
        ("commonLabels", json!({ "team": "net" }), none()),
        ("imagePullSecrets", json!([{ "name": "pull" }]), none()),
        ("clusterName", json!("prod"), none()),
        ("agent.tier", json!("tcx"), none()),
        ("agent.devices", json!(["lxc*", "cali*"]), none()),
        ("agent.dnsNames", json!("off"), none()),
        ("agent.maxEdges", json!(1024), none()),
        ("agent.maxFlows", json!(131_072), none()),
        ("agent.pinLinks", json!(false), none()),
        ("agent.extraCapabilities", json!(["SYS_RESOURCE"]), none()),
        ("agent.seccompProfile", json!({ "type": "Localhost", "localhostProfile": "orrery.json" }), none()),
        ("agent.updateStrategy", json!({ "type": "OnDelete", "rollingUpdate": null }), none()),
        ("agent.terminationGracePeriodSeconds", json!(30), none()),
        ("collector.retention", json!("1h"), none()),
        ("collector.reports.port", json!(9000), none()),
        ("collector.hubble.enabled", json!(true), none()),
        ("collector.hubble.port", json!(4246), hubble()),
        ("collector.page.port", json!(9001), none()),
        ("collector.page.expose", json!(true), none()),
        ("collector.page.service.type", json!("NodePort"), exposed()),
        ("collector.page.service.port", json!(8080), exposed()),
        ("collector.page.service.nodePort", json!(30_080), exposed()),
        ("collector.page.service.annotations", json!({ "a/b": "c" }), exposed()),
        ("collector.page.ingress.enabled", json!(true), exposed()),
        ("collector.page.ingress.className", json!("nginx"), ingress()),
        ("collector.page.ingress.annotations", json!({ "a/b": "c" }), ingress()),
        ("collector.page.ingress.hosts", json!([{ "host": "x.example", "path": "/", "pathType": "Exact" }]), ingress()),
        ("collector.page.ingress.tls", json!([{ "hosts": ["x.example"], "secretName": "tls" }]), ingress()),
        ("rbac.create", json!(false), none()),
        ("auth.reports", json!("none"), none()),
        ("auth.reportsSecret", json!("other"), json!({ "auth": { "reports": "secret", "reportsSecret": "t" } })),
        ("auth.pageSecret", json!("opens"), none()),
        ("tls.reportsSecret", json!("certificate"), none()),
        ("tls.pageSecret", json!("certificate"), none()),
        ("networkPolicy.flavour", json!("kubernetes"), cidrs()),
        ("networkPolicy.nodeCIDRs", json!(["10.0.0.0/8"]), policy()),
        ("networkPolicy.pagePeers", json!([{ "namespaceSelector": {} }]), policy()),
        ("metrics.serviceMonitor.enabled", json!(true), exposed()),
        ("metrics.serviceMonitor.labels", json!({ "release": "p" }), monitor()),
        ("metrics.serviceMonitor.interval", json!("1m"), monitor()),
        ("metrics.serviceMonitor.relabelings", json!([{ "action": "labeldrop", "regex": "x" }]), monitor()),
        ("metrics.serviceMonitor.tlsConfig", json!({ "insecureSkipVerify": true }), monitor()),
        ("metrics.podMonitor.enabled", json!(true), exposed()),
        ("metrics.podMonitor.labels", json!({ "release": "p" }), pods()),
        ("metrics.podMonitor.interval", json!("1m"), pods()),
        ("metrics.podMonitor.relabelings", json!([{ "action": "labeldrop", "regex": "x" }]), pods()),
        ("metrics.podMonitor.tlsConfig", json!({ "insecureSkipVerify": true }), pods()),
    ];
    let both = [
        ("image.repository", json!("registry.example/x")),
        ("image.tag", json!("v9")),
        ("image.digest", digest()),
        ("image.pullPolicy", json!("Always")),
        ("logLevel", json!("debug")),
        ("serviceAccount.create", json!(false)),
        ("serviceAccount.name", json!("mine")),
        ("serviceAccount.annotations", json!({ "a/b": "c" })),
        ("resources", json!({ "limits": { "memory": "2Gi" } })),
        ("tolerations", json!([{ "key": "k", "operator": "Exists" }])),
        ("nodeSelector", json!({ "disk": "ssd" })),
        ("affinity", json!({ "nodeAffinity": {} })),
        ("priorityClassName", json!("system-node-critical")),
        ("podAnnotations", json!({ "a/b": "c" })),
        ("podLabels", json!({ "extra": "label" })),
        ("extraArgs", json!(["--log-level=debug"])),
        ("extraEnv", json!([{ "name": "A", "value": "b" }])),
        ("extraVolumes", json!([{ "name": "v", "emptyDir": {} }])),
        ("extraVolumeMounts", json!([{ "name": "v", "mountPath": "/v" }])),
    ];
    for component in ["agent", "collector"] {
        for (path, value) in &both {
            table.push((format!("{component}.{path}").leak(), value.clone(), none()));
        }
    }
    table
}

/// `base` with `value` at a dotted path.
fn with(mut base: Value, path: &str, value: Value) -> Value {
    let mut at = &mut base;
    for key in path.split('.') {
        if at.is_null() {
            *at = json!({});
        }
        at = &mut at[key];
    }
    *at = value;
    base
}

/// The dotted paths of everything in values.yaml that is no branch of the table above.
fn leaves(value: &Value, path: &str, known: &BTreeSet<&str>, into: &mut Vec<String>) {
    match value.as_object() {
        Some(map) if !known.contains(path) && !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, known, into);
            }
        }
        _ => into.push(path.to_owned()),
    }
}

fn env<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let variables = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array()?;
    variables.iter().find(|variable| variable["name"] == name).map(|variable| &variable["value"])
}

#[test]
fn the_chart_has_nothing_to_complain_of() {
    let report = lint(&json!({}));
    let messages = report["messages"].as_array().expect("messages");
    let worse: Vec<_> = messages.iter().filter(|message| message["severity"].as_i64() > Some(1)).collect();
    assert!(worse.is_empty(), "{worse:?}");
    assert_eq!(report["errors"], json!([]));
}

#[test]
fn every_value_changes_something_and_still_decodes() {
    let table = toggles();
    let known: BTreeSet<&str> = table.iter().map(|(path, ..)| *path).collect();
    let values = fs::read_to_string(root().join("deploy/helm/orrery/values.yaml")).expect("read values.yaml");
    let values: Value = serde_saphyr::from_str(&values).expect("parse values.yaml");
    let mut all = Vec::new();
    leaves(&values, "", &known, &mut all);
    let missing: Vec<_> = all.iter().filter(|path| !known.contains(path.as_str())).collect();
    assert!(missing.is_empty(), "values that no test turns: {missing:?}");

    for (path, value, base) in table {
        let before = objects("orrery", &base).unwrap_or_else(|error| panic!("{path}, before: {error}"));
        let after = objects("orrery", &with(base, path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_ne!(before, after, "{path} changes nothing");
    }
}

#[test]
fn what_the_schema_does_not_know_is_refused() {
    let wrong = [
        ("agnet.tier", json!("tcx"), "agnet"),
        ("agent.teir", json!("tcx"), "teir"),
        ("agent.tier", json!("xdp"), "agent/tier"),
        ("agent.maxEdges", json!("many"), "agent/maxEdges"),
        ("agent.maxEdges", json!(0), "agent/maxEdges"),
        ("agent.extraCapabilities", json!(["SYS_ADMIN"]), "agent/extraCapabilities"),
        ("agent.extraCapabilities", json!(["ALL"]), "agent/extraCapabilities"),
        ("agent.image.digest", json!("sha256:12"), "agent/image/digest"),
        ("agent.seccompProfile", json!({ "type": "Default" }), "agent/seccompProfile/type"),
        ("collector.replicas", json!(2), "replicas"),
        ("collector.retention", json!("soon"), "collector/retention"),
        ("collector.hubble.port", json!(0), "collector/hubble/port"),
        ("collector.hubble.listen", json!("0.0.0.0:4245"), "listen"),
        ("metrics.podMonitor.enable", json!(true), "enable"),
        ("collector.page.service.type", json!("Headless"), "collector/page/service/type"),
        ("networkPolicy.flavour", json!("calico"), "networkPolicy/flavour"),
        ("clusterName", json!(""), "clusterName"),
        ("auth.reports", json!("serviceaccount"), "auth/reports"),
        ("auth.token", json!("s3cret"), "token"),
        ("tls.reportsSecret", json!("Not A Name"), "tls/reportsSecret"),
    ];
    for (path, value, named) in wrong {
        let error = texts("orrery", &with(json!({}), path, value)).expect_err(path);
        assert!(error.contains(named), "{path}: the message does not name it: {error}");
    }
}

#[test]
fn values_that_make_no_sense_together_are_refused() {
    let alone = [
        (json!({ "networkPolicy": { "flavour": "kubernetes" } }), "nodeCIDRs"),
        (json!({ "metrics": { "serviceMonitor": { "enabled": true } } }), "collector.page.expose"),
        (json!({ "metrics": { "podMonitor": { "enabled": true } } }), "collector.page.expose"),
        (json!({ "auth": { "reports": "secret" } }), "auth.reportsSecret"),
        (json!({ "collector": { "page": { "ingress": { "enabled": true } } } }), "collector.page.expose"),
    ];
    for (values, hint) in alone {
        let error = texts("orrery", &values).expect_err(hint);
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn the_privileged_part_has_no_token_and_the_part_with_the_token_no_privilege() {
    let objects = objects("orrery", &json!({})).expect("the default renders");
    let agent = &find(&objects, "DaemonSet", "agent").expect("an agent")["spec"]["template"]["spec"];
    let collector = &find(&objects, "Deployment", "collector").expect("a collector")["spec"]["template"]["spec"];

    assert_eq!(agent["automountServiceAccountToken"], false);
    // One token, of an audience that is not the API's, and no Secret.
    let volumes = agent["volumes"].as_array().expect("volumes");
    let projected: Vec<_> = volumes.iter().filter_map(|volume| volume["projected"]["sources"].as_array()).collect();
    let token = json!({ "serviceAccountToken": { "audience": "orrery", "expirationSeconds": 3600, "path": "token" } });
    assert_eq!(projected, [&vec![token]]);
    assert!(volumes.iter().all(|volume| volume["secret"].is_null()), "{volumes:?}");
    let container = &agent["containers"][0];
    assert!(container["ports"].is_null(), "the agent listens on no port");
    let security = &container["securityContext"];
    assert_eq!(security["privileged"], false);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(agent["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");

    let security = &collector["containers"][0]["securityContext"];
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(collector["securityContext"]["runAsNonRoot"], true);
    for field in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        assert!(collector[field].is_null(), "the collector has {field}");
    }
    for role in objects.iter().filter(|object| object["kind"] == "ClusterRole") {
        for rule in role["rules"].as_array().expect("rules") {
            // The one thing that is made is a question.
            let asks = rule["resources"] == json!(["tokenreviews"]);
            assert_eq!(rule["verbs"], if asks { json!(["create"]) } else { json!(["list", "watch"]) });
            assert!(!rule["resources"].to_string().contains("secrets") && !rule["resources"].to_string().contains('*'));
        }
    }
}

#[test]
fn the_chart_grants_what_the_systemd_unit_grants() {
    let unit = fs::read_to_string(root().join("deploy/orrery-agent.service")).expect("read the unit");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("a bounding set");
    let unit: BTreeSet<_> = line.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
    let objects = objects("orrery", &json!({})).expect("the default renders");
    let agent = find(&objects, "DaemonSet", "agent").expect("an agent");
    let added = &agent["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["add"];
    let chart: BTreeSet<String> = serde_json::from_value(added.clone()).expect("names");
    assert_eq!(chart, unit);
}

#[test]
fn the_page_stays_on_loopback_unless_it_is_exposed() {
    let listens = |values: Value| {
        let objects = objects("orrery", &values).expect("renders");
        let collector = find(&objects, "Deployment", "collector").expect("a collector");
        env(collector, "ORRERY_LISTEN").and_then(Value::as_str).expect("an address").to_owned()
    };
    assert_eq!(listens(json!({})), "127.0.0.1:7380");
    assert_eq!(listens(json!({ "collector": { "page": { "expose": true } } })), "[::]:7380", "of both families");
}

#[test]
fn hubbles_api_is_off_and_then_on_loopback_alone() {
    let of = |values: Value| {
        let objects = objects("orrery", &values).expect("renders");
        let collector = find(&objects, "Deployment", "collector").expect("a collector");
        let ports = collector["spec"]["template"]["spec"]["containers"][0]["ports"].to_string();
        (env(collector, "ORRERY_HUBBLE_LISTEN").cloned(), ports)
    };
    let (nowhere, ports) = of(json!({}));
    assert_eq!(nowhere, None);
    let on = of(json!({ "collector": { "hubble": { "enabled": true }, "page": { "expose": true } } }));
    assert_eq!(on.0, Some(json!("127.0.0.1:4245")));
    assert!(!on.1.contains("4245") && !ports.contains("4245"), "{}", on.1);
}

/// An agent is replaced without a gap: the next one is there, and well, before the last one goes. Two of them on a node get
/// along, as neither has a port; what they do to each other's programs is tested in the kernel.
#[test]
fn agents_are_on_every_node_and_are_replaced_one_after_the_other() {
    let objects = objects("orrery", &json!({})).expect("the default renders");
    let agent = &find(&objects, "DaemonSet", "agent").expect("an agent")["spec"];
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    assert_eq!(agent["updateStrategy"], rolling);
    let pod = &agent["template"]["spec"];
    assert!(!pod.to_string().contains("Port"), "no hostPort, no containerPort");
    let container = &pod["containers"][0];
    for probe in ["startupProbe", "livenessProbe"] {
        assert_eq!(container[probe]["exec"]["command"], json!(["/orrery-agent", "health"]), "{probe}");
    }
    let socket = env(find(&objects, "DaemonSet", "agent").expect("an agent"), "ORRERY_ADMIN_SOCKET").expect("a socket");
    let own = pod["volumes"].as_array().expect("volumes").iter().find(|volume| volume["name"] == "run");
    assert!(own.is_some_and(|volume| volume["emptyDir"].is_object()), "two agents of a node do not share {socket}");
    assert_eq!((&pod["hostNetwork"], &pod["dnsPolicy"]), (&json!(true), &json!("ClusterFirstWithHostNet")));
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["hostPID"], Value::Null);
}

/// A budget over one replica would only stop nodes from being drained.
#[test]
fn there_is_one_collector_and_no_disruption_budget() {
    let objects = objects("orrery", &json!({})).expect("the default renders");
    assert_eq!(find(&objects, "Deployment", "collector").expect("a collector")["spec"]["replicas"], 1);
    assert!(objects.iter().all(|object| object["kind"] != "PodDisruptionBudget"));
}

#[test]
fn a_policy_lets_the_nodes_alone_reach_the_report_port() {
    let of = |flavour: &str, kind: &str| {
        let values = json!({ "networkPolicy": { "flavour": flavour, "nodeCIDRs": ["192.0.2.0/24"] } });
        let objects = objects("orrery", &values).expect("renders");
        let collector = find(&objects, "Deployment", "collector").expect("a collector");
        let policy = find(&objects, kind, "collector").expect("a policy")["spec"].clone();
        (policy, collector["spec"]["selector"]["matchLabels"].clone())
    };
    let (policy, labels) = of("cilium", "CiliumNetworkPolicy");
    assert_eq!(policy["endpointSelector"]["matchLabels"], labels);
    let ports = json!([{ "ports": [{ "port": "7381", "protocol": "TCP" }] }]);
    assert_eq!(policy["ingress"], json!([{ "fromEntities": ["host", "remote-node"], "toPorts": ports }]));
    let (policy, labels) = of("kubernetes", "NetworkPolicy");
    assert_eq!(policy["podSelector"]["matchLabels"], labels);
    let from = json!([{ "ipBlock": { "cidr": "192.0.2.0/24" } }]);
    assert_eq!(policy["ingress"], json!([{ "from": from, "ports": [{ "port": 7381 }] }]));
}

#[test]
fn each_way_to_report_has_what_it_takes_and_no_more() {
    let of = |values: Value| {
        let objects = objects("orrery", &values).expect("renders");
        let agent = find(&objects, "DaemonSet", "agent").expect("an agent").clone();
        let collector = find(&objects, "Deployment", "collector").expect("a collector").clone();
        let role = find(&objects, "ClusterRole", "collector").expect("a role").to_string();
        (agent, collector, role)
    };
    let (agent, collector, role) = of(json!({}));
    assert!(role.contains("tokenreviews"));
    assert_eq!(env(&collector, "ORRERY_REPORT_TOKEN_REVIEW"), Some(&json!("true")));
    assert_eq!(env(&collector, "ORRERY_REPORT_SERVICE_ACCOUNT"), Some(&json!("orrery/orrery-agent")));
    assert_eq!(env(&agent, "ORRERY_TOKEN_FILE"), Some(&json!("/run/secrets/orrery/token")));

    let (agent, collector, role) = of(json!({ "auth": { "reports": "none" } }));
    assert!(!role.contains("tokenreviews"), "{role}");
    assert_eq!(env(&collector, "ORRERY_REPORT_NO_AUTH"), Some(&json!("true")));
    assert!(env(&agent, "ORRERY_TOKEN_FILE").is_none() && !agent.to_string().contains("projected"));

    let values =
        json!({ "auth": { "reports": "secret", "reportsSecret": "shared" }, "tls": { "reportsSecret": "cert" } });
    let (agent, collector, role) = of(values);
    assert!(!role.contains("tokenreviews") && !agent.to_string().contains("serviceAccountToken"));
    assert_eq!(env(&agent, "ORRERY_COLLECTOR"), Some(&json!("https://orrery-collector.orrery.svc:7381")));
    // Of the certificate's Secret the agent gets the authority, and never the key.
    let sources = &agent["spec"]["template"]["spec"]["volumes"].as_array().expect("volumes");
    let sources = sources.iter().find(|volume| volume["name"] == "reports").expect("a volume")["projected"].to_string();
    assert!(sources.contains("ca.crt") && !sources.contains("tls.key"), "{sources}");
    assert_eq!(env(&collector, "ORRERY_REPORT_TOKEN_FILE"), Some(&json!("/etc/orrery/report-token/token")));
    assert_eq!(env(&collector, "ORRERY_REPORT_TLS_KEY"), Some(&json!("/etc/orrery/report-tls/tls.key")));
    let probe = &collector["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"];
    assert_eq!(probe["scheme"], "HTTPS");
}

#[test]
fn a_release_of_another_name_and_place_points_its_agents_to_its_collector() {
    let objects = objects("eu", &json!({})).expect("renders");
    let agent = find(&objects, "DaemonSet", "eu-orrery-agent").expect("an agent");
    assert_eq!(env(agent, "ORRERY_COLLECTOR"), Some(&json!("http://eu-orrery-collector.orrery.svc:7381")));
    assert!(find(&objects, "Service", "eu-orrery-collector").is_some());
}

/// `deploy/kubernetes/orrery.yaml` is the chart's default, without what only Helm means.
#[test]
fn the_manifests_are_the_charts_default() {
    let path = root().join("deploy/kubernetes/orrery.yaml");
    let mut text = String::from(
        "# The chart's default rendering. Change the chart, then: UPDATE_GOLDEN=1 cargo test -p xtask --test chart\n",
    );
    for (path, template) in texts("orrery", &json!({})).expect("the default renders") {
        let kept = template.lines().filter(|line| {
            let line = line.trim_start();
            !line.starts_with("helm.sh/chart:") && !line.starts_with("app.kubernetes.io/managed-by:") && line != "---"
        });
        let body: Vec<_> = kept.collect();
        if path.ends_with(".yaml") && body.iter().any(|line| !line.trim().is_empty()) {
            let parts = template_documents(&body.join("\n"));
            for part in parts {
                text.push_str("---\n");
                text.push_str(part.trim_matches('\n'));
                text.push('\n');
            }
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("write the manifests");
    }
    let kept = fs::read_to_string(&path).expect("read the manifests; UPDATE_GOLDEN=1 writes them");
    assert_eq!(kept, text, "deploy/kubernetes/orrery.yaml is not the chart's default; UPDATE_GOLDEN=1 writes it");
}

/// The objects of one rendered template: each begins with its `apiVersion`, comments before it belong to it.
fn template_documents(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut before = String::new();
    for line in text.lines() {
        if line.starts_with("apiVersion:") {
            parts.push(std::mem::take(&mut before));
        }
        let target =
            if line.starts_with('#') || parts.is_empty() { &mut before } else { parts.last_mut().expect("one") };
        target.push_str(line);
        target.push('\n');
    }
    parts
}

#[test]
fn kubectl_kustomize_makes_the_same_objects() {
    let output = Command::new("kubectl")
        .args(["kustomize"])
        .arg(root().join("deploy/kubernetes"))
        .output()
        .expect("run kubectl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8_lossy(&output.stdout)).expect("parse");
    for object in &made {
        check(object).expect("decodes");
    }
    let names = |objects: &[Value]| -> BTreeSet<String> {
        let named = objects.iter().filter(|object| object["kind"] != "Namespace");
        named.map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
    };
    assert_eq!(names(&made), names(&objects("orrery", &json!({})).expect("renders")));
    let namespace = find(&made, "Namespace", "orrery").expect("a namespace");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
}
