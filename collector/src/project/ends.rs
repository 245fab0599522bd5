//! Whose an edge's ends were: the address at that time, on that node, behind that device. Pure.
//!
//! An address that was handed on within a second leaves two pods possible. Then the local end's device tells (a device is one
//! pod's, so all it ever saw must fit), and a remote end is who the other side's rows of the same edge say it was.

use std::sync::Arc;

use crate::{
    merge::{
        Merge,
        flow::{Flow, Row, Side},
    },
    names::{Names, Owner, Resolved, Sighting},
    time::{Ns, SECOND},
};

/// The two sides of an edge see its packets this far apart at the most: clock errors, and the road.
const APART: Ns = SECOND / 2;

/// The owners of a row's ends.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) client: Owner,
    pub(crate) server: Owner,
    /// Ends that nothing could tell.
    pub(crate) ambiguous: u32,
    /// Later reports may tell more, or less.
    pub(crate) shaky: bool,
}

/// Whose the ends of this row were.
pub(crate) fn of_row(flow: &Flow, row: &Row, merge: &Merge, names: &Names) -> Ends {
    let (client, server) = (end(flow, row, Side::Client, merge, names), end(flow, row, Side::Server, merge, names));
    Ends {
        ambiguous: u32::from(client.ambiguous) + u32::from(server.ambiguous),
        shaky: client.close || server.close,
        client: client.owner,
        server: server.owner,
    }
}

fn end(flow: &Flow, row: &Row, side: Side, merge: &Merge, names: &Names) -> Resolved {
    let at = row.first_seen;
    let host_pod = if row.source.side == side { host_pod(row, names) } else { only_host_pod(flow, side, names) };
    if let Some(pod) = host_pod {
        return Resolved { owner: Owner::Pod(pod), ambiguous: false, close: false };
    }
    if row.source.side == side {
        return local(flow, row, merge, names);
    }
    let resolved = look(flow, side, Sighting::at(at), names);
    let Owner::Pod(pod) = &resolved.owner else { return resolved };
    if resolved.close {
        return told_by_the_other(flow, side, at, merge, names).unwrap_or(resolved);
    }
    // One row of a remote end goes on when the address is handed on: its totals are both pods' then.
    let address = flow.key.end(side);
    if names.passed_on(address, pod, Ns::MAX) {
        let both = names.passed_on(address, pod, row.last_seen());
        return Resolved { ambiguous: both, close: true, ..resolved };
    }
    resolved
}

/// The pod at the row's end, where the address is its node's: by the sockets' cgroup.
fn host_pod(row: &Row, names: &Names) -> Option<Arc<str>> {
    row.pod_uids().find_map(|uid| names.pod_of_uid(uid)).cloned()
}

/// The far side sees an address and no cgroup: it means a pod of the node only if none but one has this edge.
fn only_host_pod(flow: &Flow, side: Side, names: &Names) -> Option<Arc<str>> {
    let mut pods = flow.rows.iter().filter(|row| row.source.side == side).map(|row| host_pod(row, names));
    let first = pods.next()??;
    pods.all(|pod| pod.as_ref() == Some(&first)).then_some(first)
}

/// The end that is on the reporting node.
fn local(flow: &Flow, row: &Row, merge: &Merge, names: &Names) -> Resolved {
    let node = Some(&*merge.node(row.source.node).name);
    let at = row.first_seen;
    let resolved = look(flow, row.source.side, Sighting { from: at, to: at, node }, names);
    if !resolved.close {
        return resolved;
    }
    let (from, to) = merge.span(row.source).unwrap_or((at, at));
    Resolved { close: true, ..look(flow, row.source.side, Sighting { from, to, node }, names) }
}

fn look(flow: &Flow, side: Side, sighting: Sighting<'_>, names: &Names) -> Resolved {
    match side {
        Side::Client => names.seen(flow.key.client, sighting),
        Side::Server => names.serving(flow.key.server, flow.key.port, flow.key.protocol, sighting),
    }
}

/// The one pod that the other side's rows of that instant name.
fn told_by_the_other(flow: &Flow, side: Side, at: Ns, merge: &Merge, names: &Names) -> Option<Resolved> {
    let then = |row: &&Row| row.first_seen.saturating_sub(APART) <= at && at <= row.last_seen().saturating_add(APART);
    let mut told = flow
        .rows
        .iter()
        .filter(|row| row.source.side == side)
        .filter(then)
        .map(|row| local(flow, row, merge, names))
        .filter(|resolved| !resolved.ambiguous);
    let first = told.next()?;
    told.all(|other| other.owner == first.owner).then_some(Resolved { close: true, ..first })
}
