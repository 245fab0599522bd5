//! A collector whose names come from a mock of the Kubernetes API that serves the very objects of the lab's file.

use api_mock::FileApi;
use lab::{Collector, CollectorOptions, Lab};

/// Starts both, and waits until every pod has its name; the API lives as long as what is returned beside the collector.
pub(crate) fn from_an_api(lab: &Lab) -> (Collector, Option<FileApi>) {
    let api = FileApi::serve(&lab.pod_list()).expect("the pod list is served");
    let path = lab.dir().join("kubeconfig");
    std::fs::write(&path, api.api().kubeconfig("lab")).expect("a kubeconfig");
    let arguments = vec!["--kubeconfig".to_owned(), path.display().to_string()];
    let collector =
        lab.start_collector(&CollectorOptions { arguments, ..CollectorOptions::default() }).expect("a collector");
    let pods = lab.pods().len();
    let named = || {
        let graph = collector.graph("pod").ok()?;
        let known = graph["vertices"].as_array()?.iter().filter(|vertex| vertex["kind"] == "pod").count();
        (graph["names"]["source"] == "kubernetes" && graph["names"]["state"] == "fresh" && known >= pods).then_some(())
    };
    lab::wait_for("names from the API", std::time::Duration::from_secs(20), named).expect("they come");
    (collector, Some(api))
}
