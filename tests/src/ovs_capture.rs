//! What was on the provider network: tcpdump records it, tshark, which knows nothing of this
//! project, says what each frame is.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::ovs_lab::{Lab, Namespace, Process, run, wait_until, words};

/// How long tcpdump may take to begin.
const START: Duration = Duration::from_secs(10);
/// Severity "error" of tshark's expert information.
const EXPERT_ERROR: u32 = 0x0080_0000;
/// All that tshark may dissect. The payload is random bytes: it must not guess at them.
const PROTOCOLS: [&str; 16] = [
    "_ws.expert",
    "_ws.malformed",
    "arp",
    "data",
    "eth",
    "ethertype",
    "frame",
    "gre",
    "icmp",
    "icmpv6",
    "ip",
    "ipv6",
    "lldp",
    "tcp",
    "udp",
    "vlan",
];
/// Names tshark's folder of settings.
const CONFIGURATION: &str = "WIRESHARK_CONFIG_DIR";
/// What is asked of each frame, in this order.
const FIELDS: [&str; 10] = [
    "frame.number",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.flags.df",
    "ip.ttl",
    "gre.flags_and_version",
    "gre.proto",
    "gre.key",
    "_ws.expert.severity",
];

/// A filter for frames that have no place on the provider network: neither whole NVGRE in IPv4
/// without options, nor ARP, neighbour discovery or LLDP.
pub const STRANGERS: &str = "not ( ip proto 47 and ip[0] = 0x45 and ip[6:2] & 0x3fff = 0 \
     and ip[20:4] = 0x20006558 ) and not arp and not ether proto 0x88cc \
     and not ( icmp6 and ip6[40] >= 133 and ip6[40] <= 136 )";

/// A running capture.
pub struct Capture {
    tcpdump: Process,
    path: PathBuf,
    configuration: PathBuf,
}

impl Capture {
    /// Captures whole frames that `filter` takes, at most `most`, on a link until [`Capture::end`].
    ///
    /// # Errors
    ///
    /// When tcpdump does not come up.
    pub fn start(
        lab: &Lab,
        namespace: &Namespace,
        link: &str,
        name: &str,
        most: u32,
        filter: &str,
    ) -> Result<Self> {
        let path = lab.directory().join(format!("{name}.pcap"));
        let mut tcpdump = namespace.spawn(
            &format!(
                "tcpdump -i {link} -n -p -U -Z root -B 32768 -c {most} -w {} {filter}",
                path.display()
            ),
            &[],
        )?;
        // The file's header is written once the link is being listened to.
        wait_until(START, || {
            let begun = std::fs::metadata(&path).is_ok_and(|file| file.len() >= 24);
            (begun || tcpdump.must_run().is_err()).then_some(())
        })?;
        tcpdump.must_run()?;
        Ok(Self { tcpdump, path, configuration: configuration(lab)? })
    }

    /// Ends the capture and has its frames decoded.
    ///
    /// # Errors
    ///
    /// When tshark fails.
    pub fn end(self) -> Result<Vec<Frame>> {
        // Frames wait for up to a second in the kernel's buffer.
        std::thread::sleep(Duration::from_millis(1200));
        self.tcpdump.stop()?;
        let mut tshark = words("tshark", "-n -Q");
        tshark.env(CONFIGURATION, &self.configuration);
        for setting in ["ip", "tcp", "udp"] {
            tshark.args(["-o", &format!("{setting}.check_checksum:TRUE")]);
        }
        tshark.args(["-o", "tcp.analyze_sequence_numbers:FALSE"]);
        tshark.args(["-T", "fields", "-E", "separator=;", "-r"]).arg(&self.path);
        for field in FIELDS {
            tshark.args(["-e", field]);
        }
        run(&mut tshark)?.lines().map(Frame::read).collect()
    }
}

/// A folder of settings for tshark in which nothing but [`PROTOCOLS`] is enabled.
fn configuration(lab: &Lab) -> Result<PathBuf> {
    let directory = lab.directory().join("tshark");
    if !directory.exists() {
        let known = run(&mut words("tshark", "-G protocols"))?;
        let disabled: String = known
            .lines()
            .filter_map(|line| line.split('\t').nth(2))
            .filter(|name| !PROTOCOLS.contains(name))
            .map(|name| format!("{name}\n"))
            .collect();
        ensure!(!disabled.is_empty(), "tshark knows no protocols");
        std::fs::create_dir(&directory)?;
        std::fs::write(directory.join("disabled_protos"), disabled)?;
    }
    Ok(directory)
}

/// What tshark says of one frame.
#[derive(Clone, Debug)]
pub struct Frame {
    fields: Vec<String>,
}

impl Frame {
    fn read(line: &str) -> Result<Self> {
        let fields: Vec<_> = line.split(';').map(str::to_owned).collect();
        ensure!(fields.len() == FIELDS.len(), "tshark said: {line}");
        Ok(Self { fields })
    }

    /// All values of a field; outer headers come first.
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        FIELDS
            .iter()
            .position(|field| *field == name)
            .into_iter()
            .flat_map(|at| self.fields[at].split(','))
            .filter(|value| !value.is_empty())
    }

    fn first(&self, name: &str) -> &str {
        self.values(name).next().unwrap_or_default()
    }

    /// The frame as NVGRE; none for ARP, neighbour discovery and LLDP, which belong to the network.
    ///
    /// # Errors
    ///
    /// When it is anything else, or does not decode cleanly to its end.
    pub fn nvgre(&self) -> Result<Option<Nvgre>> {
        let protocols = self.first("frame.protocols");
        if ["eth:ethertype:arp", "eth:ethertype:lldp"].contains(&protocols) {
            return Ok(None);
        }
        self.check(protocols).with_context(|| format!("frame {:?}", self.fields))?;
        let key = number(self.first("gre.key"))?;
        let flow = u8::try_from(key & 0xff).context("eight bits")?;
        Ok(Some(Nvgre {
            from: self.first("ip.src").parse()?,
            to: self.first("ip.dst").parse()?,
            vsid: key >> 8,
            flow,
        }))
    }

    fn check(&self, protocols: &str) -> Result<()> {
        let inner = protocols
            .strip_prefix("eth:ethertype:ip:gre:eth:ethertype:")
            .context("not Ethernet in GRE in IPv4")?;
        let whole = ["arp", "ip:icmp", "ip:tcp", "ip:udp", "ipv6:icmpv6", "ipv6:tcp", "ipv6:udp"];
        ensure!(
            whole.iter().any(|kind| inner.starts_with(kind))
                || inner.starts_with("ipv6:ipv6.hopopts:icmpv6"),
            "an inner frame of {inner}"
        );
        ensure!(!protocols.contains("malformed"), "malformed");
        ensure!(self.first("gre.flags_and_version") == "0x2000", "GRE flags");
        ensure!(self.first("gre.proto") == "0x6558", "GRE protocol type");
        ensure!(["1", "True"].contains(&self.first("ip.flags.df")), "outer DF is not set");
        ensure!(self.first("ip.ttl") == "64", "outer TTL is not 64");
        for severity in self.values("_ws.expert.severity") {
            ensure!(number(severity)? < EXPERT_ERROR, "tshark's expert finds an error");
        }
        Ok(())
    }
}

/// An NVGRE packet on the provider network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nvgre {
    /// The provider address it came from.
    pub from: Ipv4Addr,
    /// The provider address it went to.
    pub to: Ipv4Addr,
    /// The virtual subnet, 24 bits.
    pub vsid: u32,
    /// The FlowID.
    pub flow: u8,
}

/// Decodes every frame as NVGRE and counts packets by (VSID, source, destination).
///
/// # Errors
///
/// When a frame is neither NVGRE nor the network's own, or does not decode cleanly.
pub fn count(frames: &[Frame]) -> Result<BTreeMap<(u32, Ipv4Addr, Ipv4Addr), Vec<u8>>> {
    let mut counts: BTreeMap<_, Vec<u8>> = BTreeMap::new();
    for frame in frames {
        if let Some(Nvgre { from, to, vsid, flow }) = frame.nvgre()? {
            counts.entry((vsid, from, to)).or_default().push(flow);
        }
    }
    if counts.is_empty() {
        bail!("no NVGRE packet among {} frames", frames.len());
    }
    Ok(counts)
}

fn number(text: &str) -> Result<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .with_context(|| format!("not a number: {text:?}"))
}
