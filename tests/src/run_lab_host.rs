//! What happens to the gateway's host in these tests: links that go down, addresses that come and
//! go, neighbours set by hand, MTUs that shrink, programs that run beside the gateway, and what its kernel says to GRE.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::TryStreamExt as _;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use nvgate::demo::lab::Namespace;
use rtnetlink::{Handle, LinkUnspec};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const GRE: i32 = 47;
/// ICMP destination unreachable, and its codes for a protocol and a port (RFC 792).
const UNREACHABLE: u8 = 3;
const UNREACHABLE_CODES: [u8; 2] = [2, 3];
/// How long a program may run.
const PROGRAM: Duration = Duration::from_secs(15);
/// How long the kernel may take to refuse GRE.
const REFUSAL: Duration = Duration::from_millis(600);

/// A change to a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Administratively up.
    Up,
    /// Administratively down.
    Down,
    /// Another MTU, in bytes.
    Mtu(u32),
    /// One address more, with its prefix length.
    Add(IpAddr, u8),
    /// One address less.
    Remove(IpAddr),
    /// A neighbour by hand: a permanent entry in place of the one that the kernel resolved.
    Settle(IpAddr),
}

/// Makes `changes` to `link` of `namespace`, in order.
///
/// # Errors
///
/// What the kernel refused.
pub fn change(namespace: &Namespace, link: &str, changes: &[Change]) -> Result<()> {
    let index = namespace.link_index(link)?;
    talk(namespace, async |handle| {
        for &change in changes {
            apply(handle, index, change).await.with_context(|| format!("{change:?} of {link}"))?;
        }
        Ok(())
    })
}

/// Holds one conversation with the namespace's rtnetlink.
fn talk<T: Send>(
    namespace: &Namespace,
    words: impl AsyncFnOnce(&Handle) -> Result<T> + Send,
) -> Result<T> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            words(&handle).await
        })
    })?
}

async fn apply(handle: &Handle, index: u32, change: Change) -> Result<()> {
    let link = LinkUnspec::new_with_index(index);
    match change {
        Change::Up => handle.link().set(link.up().build()).execute().await?,
        Change::Down => handle.link().set(link.down().build()).execute().await?,
        Change::Mtu(mtu) => handle.link().set(link.mtu(mtu).build()).execute().await?,
        Change::Add(address, length) => {
            handle.address().add(index, address, length).execute().await?;
        }
        Change::Remove(address) => {
            let wanted = handle.address().get().set_link_index_filter(index);
            let mut found = wanted.set_address_filter(address).execute();
            let message = found.try_next().await?.context("no such address")?;
            handle.address().del(message).execute().await?;
        }
        Change::Settle(address) => {
            let (_, mac) = entry(handle, address).await?;
            let request = handle.neighbours().add(index, address).link_layer_address(&mac);
            request.replace().execute().await?;
        }
    }
    Ok(())
}

/// The kernel's entry for a neighbour: its state and link-layer address.
async fn entry(handle: &Handle, address: IpAddr) -> Result<(NeighbourState, Vec<u8>)> {
    let wanted = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    let mut entries = handle.neighbours().get().execute();
    while let Some(message) = entries.try_next().await? {
        let mut named = false;
        let mut mac = Vec::new();
        for attribute in message.attributes {
            if let NeighbourAttribute::Destination(destination) = attribute {
                named = destination == wanted;
            } else if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
                mac = bytes;
            }
        }
        if named {
            return Ok((message.header.state, mac));
        }
    }
    bail!("the kernel has no neighbour {address}")
}

/// Whether the kernel has a permanent entry for a neighbour.
///
/// # Errors
///
/// When it has none of any kind, or cannot be asked.
pub fn is_settled(namespace: &Namespace, address: IpAddr) -> Result<bool> {
    let (state, _) = talk(namespace, async |handle| entry(handle, address).await)?;
    Ok(state == NeighbourState::Permanent)
}

/// How a program ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub errors: String,
}

impl Ended {
    /// The line that a person is meant to read: the last one that begins with the program's name.
    #[must_use]
    pub fn sentence(&self) -> &str {
        let lines = self.errors.lines().rev();
        lines.filter_map(|line| line.strip_prefix("nvgate: ")).next().unwrap_or_default()
    }
}

/// Runs `command` inside `namespace` to its end.
///
/// # Errors
///
/// When it cannot be started, or does not end in time: it is killed then.
pub fn run(namespace: &Namespace, mut command: Command) -> Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = namespace.command(command)?;
    // Both are read while it runs, so that it never waits for a full pipe.
    let output = drain(child.stdout.take());
    let errors = drain(child.stderr.take());
    let code = wait(&mut child)?;
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Ok(Ended { code, output: text(output), errors: text(errors) })
}

fn drain<R: std::io::Read + Send + 'static>(pipe: Option<R>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is all there is to show.
            let _ = pipe.by_ref().read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child) -> Result<Option<i32>> {
    let deadline = Instant::now() + PROGRAM;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("a program did not end in {} s", PROGRAM.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the kernel at `target` refuses a GRE packet of `from`, as it does when nothing keeps
/// the packet from it.
///
/// # Errors
///
/// When the packet cannot be sent.
pub fn kernel_refuses_gre(from: &Namespace, target: Ipv4Addr) -> Result<bool> {
    from.run(|| {
        let icmp = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        let tunnel = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(GRE)))?;
        let to = SockAddr::from(SocketAddr::from((target, 0)));
        // NVGRE of a virtual subnet that nobody has (VSID 0xfffff0), and an empty frame.
        let mut packet = vec![0x20, 0, 0x65, 0x58, 0xff, 0xff, 0xf0, 0];
        packet.resize(8 + 60, 0);
        tunnel.send_to(&packet, &to)?;
        let deadline = Instant::now() + REFUSAL;
        let mut buffer = [0; 2048];
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            icmp.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let Ok(length) = (&icmp).read(&mut buffer) else { break };
            let header = usize::from(buffer[0] & 0xf) * 4;
            if let Some([kind, code, .., protocol]) = buffer[..length]
                .get(header..header + 8 + 10)
                .map(|icmp| [icmp[0], icmp[1], icmp[8 + 9]])
                && kind == UNREACHABLE
                && UNREACHABLE_CODES.contains(&code)
                && i32::from(protocol) == GRE
            {
                return Ok(true);
            }
        }
        Ok(false)
    })?
}
