//! What no filter here can ask for, and why.

use super::Refused;
use crate::hubble::proto::flow::FlowFilter;

/// Why nothing is answered about it.
const HTTP: &str = "HTTP is not seen";

/// What Hubble's flows may be, and ours never are.
pub(super) fn unseen(f: &FlowFilter) -> Result<(), Refused> {
    match f.protocol.iter().find(|name| name.eq_ignore_ascii_case("http")) {
        Some(_) => Err(Refused { field: "protocol", why: format!("{HTTP}; hint: tcp, udp, sctp, icmp or dns") }),
        None => Ok(()),
    }
}

/// Fields that are not evaluated.
pub(super) fn refuse(f: &FlowFilter) -> Result<(), Refused> {
    let fields = [
        ("http_status_code", f.http_status_code.is_empty(), HTTP),
        ("http_method", f.http_method.is_empty(), HTTP),
        ("http_path", f.http_path.is_empty(), HTTP),
        ("http_url", f.http_url.is_empty(), HTTP),
        ("http_header", f.http_header.is_empty(), HTTP),
        (
            "dns_query",
            f.dns_query.is_empty(),
            "regular expressions are not evaluated; hint: --fqdn takes patterns with *",
        ),
        ("trace_id", f.trace_id.is_empty(), "requests are not traced"),
        ("ip_trace_id", f.ip_trace_id.is_empty(), "IP options are not read"),
        ("uuid", f.uuid.is_empty(), "flows have no UUID"),
        ("source_ip_xlated", f.source_ip_xlated.is_empty(), "translated addresses are not joined to flows"),
        ("node_labels", f.node_labels.is_empty(), "labels of nodes are not kept"),
        ("encrypted", f.encrypted.is_empty(), "whether a packet was encrypted is not known"),
        (
            "experimental",
            f.experimental.as_ref().is_none_or(|one| one.cel_expression.is_empty()),
            "CEL is not evaluated",
        ),
    ];
    match fields.into_iter().find(|(_, empty, _)| !empty) {
        Some((field, _, why)) => Err(Refused { field, why: why.to_owned() }),
        None => Ok(()),
    }
}
