//! The shop is open: names resolve, everybody talks, the deployment scales, one link drops.

use std::time::Duration;

use lab::shop::{SCALED, Shop};
use lab::{Offloads, Protocol, wait_for};

#[test]
fn the_shop_talks_scales_and_drops() {
    if !lab::testing::may_run() {
        return;
    }
    let start = std::time::Instant::now();
    let shop = Shop::open(Offloads::On, 0).expect("the shop opens");
    println!("shop of {} pods open in {:?}", shop.lab().pods().len(), start.elapsed());
    let sent = |protocol| {
        let ledger = shop.lab().ledger().expect("a ledger");
        ledger.iter().filter(|(edge, _)| edge.protocol == protocol).count()
    };
    // pricing to 2 catalogs, payments to ledger, web and cart and orders to statsd; transfers to postgres, redis and outside.
    wait_for("all protocols are spoken", Duration::from_secs(20), || {
        (sent(Protocol::Udp) >= 9 && sent(Protocol::Tcp) >= 7 && sent(Protocol::Icmp) >= 3).then_some(())
    })
    .expect("they are");
    let carts =
        || shop.lab().pods().iter().filter(|pod| pod.workload() == SCALED).map(|pod| pod.v4()).collect::<Vec<_>>();
    for wanted in [8, 3] {
        shop.scale(wanted).expect("it scales");
        assert_eq!(carts().len(), wanted);
    }
    shop.scale(4).expect("it scales");
    let newest =
        shop.lab().pods().into_iter().filter(|pod| pod.workload() == SCALED).map(|pod| pod.device().to_owned());
    let devices: Vec<String> = newest.collect();
    let stats = || {
        let nodes = shop.lab().nodes();
        let all = nodes.iter().flat_map(|node| shop.lab().device_stats(node).expect("statistics"));
        all.filter(|(name, _)| devices.contains(name)).map(|(_, stats)| stats.rx_packets.min(stats.tx_packets)).min()
    };
    wait_for("every cart gets traffic", Duration::from_secs(20), || stats().filter(|packets| *packets > 50))
        .expect("they do");
    assert!(shop.link().dropped().expect("a counter").packets > 10);
}
