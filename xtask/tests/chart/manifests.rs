//! Manifests: what Helm's engine makes of the chart, and what Kubernetes would say of it.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::{Namespace, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The project's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Helm's engine, started once: a process takes longer to start than a chart to render.
struct Engine {
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[expect(clippy::zombie_processes, reason = "it reads our pipe and ends with us")]
static ENGINE: LazyLock<Mutex<Engine>> = LazyLock::new(|| {
    let engine = root().join("target/xtask/helm");
    assert!(engine.is_dir(), "Helm's engine is not there: {}; hint: cargo xtask setup", engine.display());
    let mut child = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart/helm.py"))
        .env("PYTHONPATH", engine)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start python3");
    let calls = child.stdin.take().expect("a pipe");
    let answers = BufReader::new(child.stdout.take().expect("a pipe"));
    Mutex::new(Engine { calls, answers })
});

/// Asks Helm's engine.
fn helm(op: &str, name: &str, values: &Value) -> Result<Value, String> {
    let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    let call = json!({ "chart": root().join("deploy/helm/orrery"), "op": op, "name": name, "values": values });
    writeln!(engine.calls, "{call}").expect("write the call");
    let mut answer = String::new();
    engine.answers.read_line(&mut answer).expect("read the answer");
    let answer: Value = serde_json::from_str(&answer).expect("helm.py answers JSON");
    answer.get("error").map_or_else(
        || Ok(answer["ok"].clone()),
        |error| Err(error.as_str().unwrap_or("an error without words").to_owned()),
    )
}

/// What `helm lint --strict` says.
pub(crate) fn lint(values: &Value) -> Value {
    helm("lint", "orrery", values).expect("lint answers")
}

/// Templates and their text; an error is Helm's own.
pub(crate) fn texts(name: &str, values: &Value) -> Result<BTreeMap<String, String>, String> {
    let rendered = helm("render", name, values)?;
    Ok(serde_json::from_value(rendered).expect("paths and texts"))
}

/// The objects of the chart, decoded strictly.
pub(crate) fn objects(name: &str, values: &Value) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for (path, text) in texts(name, values)? {
        if path.ends_with(".yaml") {
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&text).map_err(|e| format!("{path}: {e}\n{text}"))?;
            objects.extend(documents.into_iter().filter(|document| !document.is_null()));
        }
    }
    for object in &objects {
        check(object)?;
    }
    Ok(objects)
}

/// The object of a kind whose name ends in `suffix`.
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, suffix: &str) -> Option<&'a Value> {
    objects.iter().find(|object| {
        object["kind"] == kind && object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(suffix))
    })
}

/// Decodes an object as the API server would; a field it does not know is an error here.
pub(crate) fn check(object: &Value) -> Result<(), String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    match (object["apiVersion"].as_str().unwrap_or_default(), kind) {
        ("apps/v1", "DaemonSet") => strict::<DaemonSet>(object),
        ("apps/v1", "Deployment") => strict::<Deployment>(object),
        ("v1", "Namespace") => strict::<Namespace>(object),
        ("v1", "Service") => strict::<Service>(object),
        ("v1", "ServiceAccount") => strict::<ServiceAccount>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => strict::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => strict::<ClusterRoleBinding>(object),
        ("networking.k8s.io/v1", "Ingress") => strict::<Ingress>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => strict::<NetworkPolicy>(object),
        // Custom resources: no types for them are published as a crate; their shape is held below.
        ("cilium.io/v2", "CiliumNetworkPolicy") => fields(object, &["endpointSelector", "ingress"]),
        ("monitoring.coreos.com/v1", "PodMonitor") => fields(object, &["selector", "podMetricsEndpoints"]),
        ("monitoring.coreos.com/v1", "ServiceMonitor") => fields(object, &["selector", "endpoints"]),
        other => Err(format!("an object of a kind nobody expects: {other:?}")),
    }
}

fn fields(object: &Value, known: &[&str]) -> Result<(), String> {
    let spec = object["spec"].as_object().ok_or("no spec")?;
    match spec.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(format!("{}: unknown field spec.{unknown}", object["kind"])),
        None => Ok(()),
    }
}

fn strict<T: DeserializeOwned>(object: &Value) -> Result<(), String> {
    let mut unknown = Vec::new();
    let decoded: Result<T, _> = serde_ignored::deserialize(object, |path| unknown.push(path.to_string()));
    decoded.map_err(|error| format!("{}: {error}", object["kind"]))?;
    if unknown.is_empty() { Ok(()) } else { Err(format!("{}: unknown fields {unknown:?}", object["kind"])) }
}
