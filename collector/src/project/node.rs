//! Rows of nodes and devices, from the merged state. Pure.

use std::{collections::BTreeSet, sync::Arc};

use wire::v1::{Hook, Point};

use super::{
    facts::{drop_rows, point_label},
    row::round,
};
use crate::{
    merge::{
        Merge,
        node::{Node, tier_label},
    },
    names::Names,
    time::Ns,
    view::{DeviceRow, HookRow, NodeRow, NodeState, TierRow, ms},
};

/// The rows of all nodes: those that report, and those of the pod list that never did.
#[must_use]
pub fn node_rows(merge: &Merge, names: &Names, now: Ns) -> Vec<NodeRow> {
    let mut rows: Vec<NodeRow> = merge.nodes().map(|node| node_row(node, now)).collect();
    for node in names.nodes().filter(|node| merge.node_named(&node.name).is_none()) {
        rows.push(NodeRow {
            name: Arc::clone(&node.name),
            state: NodeState::Lost,
            why: Some("no agent has reported".to_owned()),
            last_report_ms: None,
            tick_ms: None,
            clock_offset_ms: None,
            clock_error_ms: None,
            agent_version: None,
            epoch_ms: None,
            tier: "none".to_owned(),
            tiers: Vec::new(),
            devices: 0,
            reattached: 0,
            blind_spots: Vec::new(),
            refused_hooks: Vec::new(),
            hooks: Vec::new(),
            drops: Vec::new(),
            seen_skbs: 0,
            unseen_skbs: 0,
            unaccounted_skbs: 0,
            other_skbs: 0,
            losses: Vec::new(),
        });
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// The row of a node that reports.
fn node_row(node: &Node, now: Ns) -> NodeRow {
    let (state, why) = node.state(now);
    let (tiers, blind_spots) = (node.tiers(), node.blind_spots());
    let devices = tiers.iter().map(|tier| tier.devices).sum();
    let (mut seen, mut unseen, mut unaccounted) = (0u64, 0u64, 0i64);
    for account in node.devices.values() {
        let settled = account.newest().is_some_and(|(_, run)| !run.unsettled);
        for direction in [0, 1] {
            let account = account.account(direction);
            seen = seen.saturating_add(account.seen_skbs);
            unseen = unseen.saturating_add(account.unseen_skbs);
            if settled {
                let rest = rest(account.carried_skbs, account.seen_skbs, account.unseen_skbs);
                unaccounted = unaccounted.saturating_add(rest);
            }
        }
    }
    let in_ms = |ns: Ns| round(ns as f64 / 1e6, 1e2);
    NodeRow {
        name: Arc::clone(&node.name),
        state,
        why,
        last_report_ms: Some(ms(node.last_report)),
        tick_ms: Some(node.tick_ms),
        clock_offset_ms: node.clock.map(|(offset, _)| in_ms(offset)),
        clock_error_ms: node.clock.map(|(_, error)| in_ms(error)),
        agent_version: Some(node.agent_version.clone()),
        epoch_ms: node.epoch().map(|(epoch, _)| ms(crate::time::from_wire(epoch))),
        tier: tier(&tiers).to_owned(),
        tiers,
        devices,
        reattached: node.reattached(),
        blind_spots,
        refused_hooks: node.refused_hooks.clone(),
        hooks: node.hooks.iter().map(hook_row).collect(),
        drops: drop_rows(std::iter::once((&node.name, &node.drops()))),
        seen_skbs: seen,
        unseen_skbs: unseen,
        unaccounted_skbs: unaccounted,
        other_skbs: node.other().skbs,
        losses: node.losses(),
    }
}

/// What the kernel carried and nobody accounts for.
fn rest(carried: u64, seen: u64, unseen: u64) -> i64 {
    let rest = i128::from(carried) - i128::from(seen) - i128::from(unseen);
    i64::try_from(rest).unwrap_or(if rest < 0 { i64::MIN } else { i64::MAX })
}

/// The accounts of all devices of all nodes.
#[must_use]
pub fn device_rows(merge: &Merge) -> Vec<DeviceRow> {
    let mut rows = Vec::new();
    for node in merge.nodes() {
        for ((device, ifindex), account) in &node.devices {
            let Some((_, newest)) = account.newest() else { continue };
            let epochs: BTreeSet<u64> = account.runs.keys().map(|(epoch, _)| *epoch).collect();
            for (index, direction) in ["ingress", "egress"].into_iter().enumerate() {
                let sums = account.account(index);
                rows.push(DeviceRow {
                    node: Arc::clone(&node.name),
                    device: device.clone(),
                    ifindex: *ifindex,
                    direction: direction.to_owned(),
                    tier: tier_label(newest.tier).to_owned(),
                    point: Point::try_from(newest.point).ok().and_then(point_label).map(ToOwned::to_owned),
                    tunnel: newest.tunnel.map(|tunnel| tunnel.label().to_owned()),
                    gone: newest.gone,
                    settled: !newest.unsettled,
                    epochs: u32::try_from(epochs.len()).unwrap_or(u32::MAX),
                    seen_skbs: sums.seen_skbs,
                    seen_bytes: sums.seen_bytes,
                    unseen_skbs: sums.unseen_skbs,
                    unseen_bytes: sums.unseen_bytes,
                    carried_skbs: sums.carried_skbs,
                    carried_bytes: sums.carried_bytes,
                    unaccounted_skbs: rest(sums.carried_skbs, sums.seen_skbs, sums.unseen_skbs),
                    unaccounted_bytes: rest(sums.carried_bytes, sums.seen_bytes, sums.unseen_bytes),
                    link_control_skbs: sums.link_control_skbs,
                    malformed_skbs: sums.malformed_skbs,
                });
            }
        }
    }
    rows
}

/// One word for all devices: their common tier, `mixed`, `partial` where one is a blind spot, `none` where all are.
fn tier(tiers: &[TierRow]) -> &str {
    let mut watched = tiers.iter().filter(|tier| tier.tier != "unwatched").map(|tier| tier.tier.as_str());
    match (watched.next(), watched.next()) {
        (None, _) => "none",
        _ if tiers.iter().any(|tier| tier.tier == "unwatched") => "partial",
        (Some(only), None) => only,
        (Some(_), Some(_)) => "mixed",
    }
}

fn hook_row(hook: &Hook) -> HookRow {
    HookRow {
        fact: hook.fact.clone(),
        form: hook.form.clone(),
        refused: (!hook.refused.is_empty()).then(|| hook.refused.clone()),
    }
}
