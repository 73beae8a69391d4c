//! Network namespaces for tests: a thread of its own with a fresh namespace and a runtime in it.

use std::net::{IpAddr, Ipv4Addr};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// Says why a test did not run.
pub fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
}

/// Runs `test` in a fresh network namespace with a tokio runtime on one thread, or says that it
/// cannot.
pub fn in_namespace<T, F>(test: T)
where
    T: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()>,
{
    if !nix::unistd::geteuid().is_root() {
        skip("needs root, to make network namespaces");
        return;
    }
    let thread = std::thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            skip(&format!("cannot make a network namespace: {error}"));
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(std::time::Duration::from_secs(30), test())
                .await
                .expect("the test ends within 30 seconds");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Plain rtnetlink, for the test's own changes.
pub fn connect() -> Handle {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

/// A veth pair in this namespace, both ends up; the indexes of both.
pub async fn veth(handle: &Handle, left: &str, right: &str) -> (u32, u32) {
    handle.link().add(LinkVeth::new(left, right).build()).execute().await.unwrap();
    let mut indexes = [0; 2];
    for (name, index) in [left, right].into_iter().zip(&mut indexes) {
        *index = nix::net::if_::if_nametoindex(name).unwrap();
        handle.link().set(LinkUnspec::new_with_index(*index).up().build()).execute().await.unwrap();
    }
    (indexes[0], indexes[1])
}

/// Adds an address to a link.
pub async fn address(handle: &Handle, link: u32, address: &str, length: u8) {
    let address: IpAddr = address.parse().unwrap();
    handle.address().add(link, address, length).execute().await.unwrap();
}

/// Adds an IPv4 route through a gateway.
pub async fn route_v4(handle: &Handle, network: [u8; 4], length: u8, gateway: [u8; 4]) {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(network.into(), length)
        .gateway(gateway.into())
        .build();
    handle.route().add(route).execute().await.unwrap();
}
