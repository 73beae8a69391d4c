//! The health endpoint over real TCP connections on loopback.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::demo::lab::{LinkSetup, Namespace, SuperPackets};

/// No test waits longer for one answer.
const BOUND: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    status: Arc<Mutex<Status>>,
    _stop: oneshot::Sender<()>,
}

impl Server {
    async fn start(status: Status, patience: Patience) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(Mutex::new(status));
        let source = Arc::clone(&status);
        let state = AdminState::new(move || source.lock().unwrap().clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
        };
        tokio::spawn(serve_with(listener, state, stopped, patience));
        Self { address, status, _stop: stop }
    }

    async fn busy() -> Self {
        Self::start(samples::busy(), Patience::default()).await
    }

    /// Sends `request` and reads until the server closes: the status code, head and body.
    async fn exchange(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(BOUND, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer has a head");
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String, String) {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.status.lock().unwrap();
        change(&mut status);
        status.components = health::assess(&status);
    }
}

#[tokio::test]
async fn a_busy_gateway_is_alive_ready_and_ok() {
    let server = Server::busy().await;
    let (code, _, body) = server.get("/livez").await;
    assert_eq!((code, body.as_str()), (200, "ok\n"));
    let (code, _, body) = server.get("/readyz").await;
    assert_eq!((code, body.as_str()), (200, "ready\n"));
    let (code, head, body) = server.get("/healthz").await;
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    let expected = "{\"status\":\"ok\",\"components\":[\n\
                    {\"name\":\"config\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"port fabric\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"port front_end\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"link uplink0\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"link eth1\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"worker 0\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"worker 1\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"site contoso/hq\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"bgp contoso/router\",\"status\":\"ok\",\"reason\":null},\n\
                    {\"name\":\"front_end bgp transit\",\"status\":\"ok\",\"reason\":null}\n\
                    ]}\n";
    assert_eq!(body, expected);
}

#[tokio::test]
async fn readiness_names_every_reason_and_comes_back() {
    let server = Server::busy().await;
    server.change(|status| {
        status.ports[0].running = false;
        status.workers[1].heartbeat_age_ms = Some(9_400);
    });
    let (code, _, body) = server.get("/readyz").await;
    assert_eq!(code, 503);
    let expected = "not ready\n\
                    port fabric: link eth1 is down: run `ip link set eth1 up` and check its carrier\n\
                    worker 1: has not turned its loop for 9.4 s: restart the gateway\n";
    assert_eq!(body, expected);
    let (code, _, body) = server.get("/healthz").await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, document["status"].as_str()), (503, Some("failed")));
    assert_eq!(server.get("/livez").await.0, 200, "what failed does not make the process dead");

    server.change(|status| *status = samples::busy());
    assert_eq!(server.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_refused_reload_is_degraded_and_still_ready() {
    let server = Server::busy().await;
    server.change(|status| status.config.last_error = Some(vec!["bad vsid".to_owned()]));
    assert_eq!(server.get("/readyz").await.0, 200);
    let (code, _, body) = server.get("/healthz").await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, document["status"].as_str()), (200, Some("degraded")));
    assert!(document["components"][0]["reason"].as_str().unwrap().contains("bad vsid"));
}

#[tokio::test]
async fn metrics_and_status_are_what_they_claim_to_be() {
    let server = Server::busy().await;
    let (code, head, body) = server.get("/metrics").await;
    assert_eq!((code, body), (200, metrics::render(&samples::busy())));
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let (code, _, body) = server.get("/v1/status").await;
    assert_eq!(code, 200);
    assert_eq!(serde_json::from_str::<Status>(&body).unwrap(), samples::busy());
}

#[tokio::test]
async fn questions_about_bgp_are_refused_in_one_sentence_where_nobody_answers() {
    let server = Server::busy().await;
    for path in ["peers", "routes?tenant=contoso", "explain?tenant=contoso&prefix=10.0.0.0/8"] {
        let (code, _, body) = server.get(&format!("/v1/bgp/{path}")).await;
        assert_eq!(code, 503, "{path}");
        assert_eq!(body, "BGP is not running: the gateway is not ready, or stops\n");
    }
}

#[tokio::test]
async fn a_wrong_question_about_bgp_is_the_askers_fault() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (questions, _asked) = Questions::new(crate::io::packet::Waker::new().unwrap());
    let state = AdminState::new(samples::busy).with_bgp(questions);
    tokio::spawn(serve(listener, state, std::future::pending()));
    let (_stop, _) = oneshot::channel();
    let status = Arc::default();
    let server = Server { address, status, _stop };
    for (path, said) in [
        ("routes?tenant=contoso&limit=0", "limit 0 is not between 1 and 1000"),
        ("routes?tenant=contoso&limit=1001", "limit 1001 is not between 1 and 1000"),
        ("routes?tenant=contoso&after=10", "10"),
        ("routes?tenant=contoso&prefixes=1", "prefixes"),
        ("explain?tenant=contoso", "prefix"),
        ("explain?tenant=contoso&prefix=nonsense", "nonsense"),
    ] {
        let (code, _, body) = server.get(&format!("/v1/bgp/{path}")).await;
        assert_eq!(code, 400, "{path}");
        assert!(body.contains(said), "{path}: {body}");
    }
}

#[tokio::test]
async fn what_is_not_a_get_of_a_known_path_is_refused() {
    let server = Server::busy().await;
    let (code, _, body) = server.get("/v2/status").await;
    assert_eq!(code, 404);
    assert!(body.contains("/v1/status"), "{body}");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = format!("{method} /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n");
        let (code, head, _) = server.exchange(&request).await;
        assert_eq!(code, 405, "{method}");
        assert!(head.contains("allow: get,head"), "{head}");
    }
    let with_body = "GET /livez HTTP/1.1\r\nHost: gateway\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(server.exchange(with_body).await.0, 200);
    assert_eq!(server.exchange("nonsense\r\n\r\n").await.0, 400);
}

#[tokio::test]
async fn a_connection_carries_one_request() {
    let server = Server::busy().await;
    let one = "GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n";
    let (_, head, body) = server.exchange(&one.repeat(2)).await;
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body, "ok\n");
}

#[tokio::test]
async fn slow_clients_are_disconnected_and_delay_others_no_longer_than_that() {
    let patience = Patience {
        connections: 2,
        request: Duration::from_millis(300),
        response: Duration::from_secs(5),
    };
    let server = Server::start(samples::busy(), patience).await;
    let begun = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").await.unwrap();
        slow.push(stream);
    }

    let (code, _, _) = timeout(BOUND, server.get("/livez")).await.unwrap();

    assert_eq!(code, 200);
    assert!(begun.elapsed() >= patience.request, "both permits were taken until then");
    for mut stream in slow {
        let mut rest = Vec::new();
        // The server closes; whether by FIN or RST is the kernel's choice.
        let _ = timeout(BOUND, stream.read_to_end(&mut rest)).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_dribbles_its_request_has_no_more_time_than_others() {
    let patience = Patience {
        connections: 1,
        request: Duration::from_millis(300),
        response: Duration::from_secs(5),
    };
    let server = Server::start(samples::busy(), patience).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").await.unwrap();
    let begun = Instant::now();
    while stream.write_all(b"x").await.is_ok() {
        assert!(begun.elapsed() < BOUND, "a dribbling client is never disconnected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= patience.request);
}

#[tokio::test]
async fn a_client_that_never_takes_its_answer_is_disconnected() {
    let mut status = samples::busy();
    // More than the kernel buffers on loopback for a client that does not read.
    status.config.last_error = Some(vec!["x".repeat(1 << 20); 32]);
    let patience = Patience {
        connections: 1,
        request: Duration::from_secs(5),
        response: Duration::from_millis(300),
    };
    let server = Server::start(status, patience).await;
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    deaf.write_all(b"GET /v1/status HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
    // The only permit comes back although `deaf` is still connected.
    let (code, _, _) = timeout(BOUND, server.get("/livez")).await.unwrap();
    assert_eq!(code, 200);
    drop(deaf);
}

#[tokio::test]
async fn an_address_in_use_is_said_in_one_sentence() {
    let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address).await.unwrap_err();
    let expected = format!(
        "admin address {address} is in use: change admin.listen in gateway.yaml \
         or stop the other process"
    );
    assert_eq!(error.to_string(), expected);
    let elsewhere = bind("192.0.2.1:9470".parse().unwrap()).await.unwrap_err();
    assert!(elsewhere.to_string().contains("not an address of this host"), "{elsewhere}");
}

#[test]
fn an_address_that_comes_a_moment_later_is_waited_for() {
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let Ok(namespace) = Namespace::new("late") else {
        println!("SKIPPED: network namespaces need root or a user namespace");
        return;
    };
    namespace.add_veth("mgmt0", &namespace, "other").unwrap();
    let late = namespace.spawn("listener", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let early = bind((ADDRESS, 0).into()).await;
            (early.is_err(), bind_soon((ADDRESS, 0).into()).await.map(drop))
        })
    });
    std::thread::sleep(Duration::from_millis(500));
    let addresses = &[(ADDRESS, 24)];
    let super_packets = SuperPackets::Allowed;
    let setup = LinkSetup { name: "mgmt0", mac: None, mtu: 1500, addresses, super_packets };
    namespace.set_up(&setup).unwrap();
    let (was_refused, bound) = late.unwrap().join().unwrap();
    assert!(was_refused);
    bound.unwrap();
}
