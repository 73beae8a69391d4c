//! What the demo shows: each way of a packet through the gateway, and that no way leads from one
//! tenant to the other.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::interrupt::Interrupt;
use super::lab::Namespace;
use super::lab::probe::{Answer, ask_tcp, ask_udp, download, ping};
use super::report::{Observed, Report};
use super::site::{
    DOWNLOAD_BYTES, DOWNLOAD_PORT, INBOUND_PORT, SERVER, SERVICE_PORT, Site, TENANTS, Tenant,
};

/// How long something that works may take, with a lost first packet and its second try.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same once [`FAILURES_UNTIL_HURRY`] checks failed: a broken gateway is soon known as one.
const HURRY: Duration = Duration::from_millis(500);
const FAILURES_UNTIL_HURRY: usize = 3;
/// How long something is tried that must not work.
const REFUSAL: Duration = Duration::from_millis(800);
const DOWNLOAD_PATIENCE: Duration = Duration::from_secs(15);

const REPLY: &str = "echo reply";
const UNREACHABLE: &str = "unreachable";

type Step<'a, W> = fn(&mut Checks<'a, W>) -> io::Result<()>;

/// Makes every check, in order, until done or interrupted.
pub fn run<W: Write>(site: &Site, report: &mut Report<W>, interrupt: &Interrupt) -> io::Result<()> {
    let mut checks = Checks { site, report, interrupt, questions: 0 };
    let steps: [Step<'_, W>; 8] = [
        Checks::default_gateways,
        Checks::inside_a_tenant,
        Checks::outbound,
        Checks::inbound,
        Checks::same_address_of_two_tenants,
        Checks::address_of_the_other_tenant,
        Checks::bulk,
        Checks::nothing_crossed,
    ];
    for step in steps {
        if interrupt.pending() {
            return Ok(());
        }
        step(&mut checks)?;
    }
    Ok(())
}

struct Checks<'a, W> {
    site: &'a Site,
    report: &'a mut Report<W>,
    interrupt: &'a Interrupt,
    questions: u32,
}

#[derive(Clone, Copy)]
enum Transport {
    Tcp,
    Udp,
}

impl<W: Write> Checks<'_, W> {
    fn default_gateways(&mut self) -> io::Result<()> {
        for Tenant { name, .. } in TENANTS {
            let vm = &self.site.vm(&format!("{name}-web")).namespace;
            let what = format!("{name}-web pings its default gateway 10.1.0.1");
            self.ping(vm, &what, Ipv4Addr::new(10, 1, 0, 1).into())?;
        }
        Ok(())
    }

    fn inside_a_tenant(&mut self) -> io::Result<()> {
        for Tenant { name, .. } in TENANTS {
            let web = &self.site.vm(&format!("{name}-web"));
            let db = &self.site.vm(&format!("{name}-db"));
            let expected = format!("{name}-db saw {}", web.ipv4);
            let what = format!("{name}-web pings {name}-db in the other subnet");
            self.ping(&web.namespace, &what, db.ipv4.into())?;
            for (transport, verb) in [(Transport::Tcp, "TCP"), (Transport::Udp, "UDP")] {
                let what = format!("{name}-web asks {name}-db in the other subnet, {verb}");
                let target = (db.ipv4, SERVICE_PORT).into();
                self.ask(&web.namespace, &what, transport, target, &expected)?;
            }
            if let (Some(source), Some(target)) = (web.ipv6, db.ipv6) {
                let what = format!("{name}-web asks {name}-db over IPv6, TCP");
                let expected = format!("{name}-db saw {source}");
                let target = (target, SERVICE_PORT).into();
                self.ask(&web.namespace, &what, Transport::Tcp, target, &expected)?;
            }
        }
        Ok(())
    }

    fn outbound(&mut self) -> io::Result<()> {
        for Tenant { name, public, .. } in TENANTS {
            let vm = &self.site.vm(&format!("{name}-web")).namespace;
            let expected = format!("server saw {public}");
            self.ping(vm, &format!("{name}-web pings the server through NAT"), SERVER.into())?;
            for (transport, verb) in [(Transport::Tcp, "TCP"), (Transport::Udp, "UDP")] {
                let what = format!("{name}-web asks the server through NAT, {verb}");
                self.ask(vm, &what, transport, (SERVER, SERVICE_PORT).into(), &expected)?;
            }
        }
        Ok(())
    }

    fn inbound(&mut self) -> io::Result<()> {
        for Tenant { name, public, .. } in TENANTS {
            let expected = format!("{name}-web saw {SERVER}");
            for (transport, verb) in [(Transport::Tcp, "TCP"), (Transport::Udp, "UDP")] {
                let what = format!("server asks {public}:{INBOUND_PORT} (inbound rule), {verb}");
                let target = (public, INBOUND_PORT).into();
                self.ask(&self.site.server, &what, transport, target, &expected)?;
            }
        }
        Ok(())
    }

    /// The address 10.1.0.20 is another VM in each tenant.
    fn same_address_of_two_tenants(&mut self) -> io::Result<()> {
        for Tenant { name, .. } in TENANTS {
            let web = self.site.vm(&format!("{name}-web"));
            let app = self.site.vm(&format!("{name}-app"));
            let what = format!("{name}-web asks {}, which both tenants have", app.ipv4);
            let expected = format!("{name}-app saw {}", web.ipv4);
            let target = (app.ipv4, SERVICE_PORT).into();
            self.ask(&web.namespace, &what, Transport::Tcp, target, &expected)?;
        }
        Ok(())
    }

    fn address_of_the_other_tenant(&mut self) -> io::Result<()> {
        let target = self.site.vm("blue-only").ipv4;
        let from_blue = &self.site.vm("blue-web").namespace;
        let from_red = &self.site.vm("red-web").namespace;
        self.ping(
            from_blue,
            &format!("blue-web pings {target}, which only blue has"),
            target.into(),
        )?;
        let what = format!("red-web pings {target}, which only blue has");
        self.report.check(&what, UNREACHABLE, || {
            refused(from_red.run(|| ping(target.into(), REFUSAL))?, |_| REPLY.into())
        })?;
        let nonce = self.nonce(from_red);
        let what = format!("red-web asks {target}, which only blue has, TCP");
        let socket = (target, SERVICE_PORT).into();
        self.report.check(&what, UNREACHABLE, || {
            refused(from_red.run(|| ask_tcp(socket, &nonce, REFUSAL))?, |answer| says(&answer))
        })
    }

    fn bulk(&mut self) -> io::Result<()> {
        let vm = &self.site.vm("red-web").namespace;
        let interrupt = self.interrupt;
        let what = format!("red-web downloads {} MB through NAT", DOWNLOAD_BYTES / 1_000_000);
        let expected = format!("{DOWNLOAD_BYTES} bytes, all right");
        self.report.check(&what, &expected, || {
            let target = SocketAddr::from((SERVER, DOWNLOAD_PORT));
            let (bytes, elapsed) =
                vm.run(|| download(target, DOWNLOAD_PATIENCE, || interrupt.pending()))??;
            let rate = bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e6;
            Ok(Observed {
                text: format!("{bytes} bytes, all right"),
                detail: format!("({:.1} s, {rate:.0} Mbit/s)", elapsed.as_secs_f64()),
            })
        })
    }

    /// Every question carries the asker's name: no service may have heard of another tenant's.
    fn nothing_crossed(&mut self) -> io::Result<()> {
        for (index, Tenant { name, .. }) in TENANTS.into_iter().enumerate() {
            let what = format!("questions that {name}'s VMs received from the other tenant");
            self.report.check(&what, "0", || {
                let other = TENANTS[1 - index].name;
                let seen = self
                    .site
                    .vms
                    .iter()
                    .filter(|vm| vm.tenant == index)
                    .flat_map(|vm| vm.service.seen());
                let (foreign, own): (Vec<_>, Vec<_>) =
                    seen.partition(|question| question.nonce.starts_with(other));
                anyhow::ensure!(!own.is_empty(), "not even its own arrived");
                Ok(Observed {
                    text: foreign.len().to_string(),
                    detail: format!("(of {})", foreign.len() + own.len()),
                })
            })?;
        }
        Ok(())
    }

    fn ping(&mut self, from: &Namespace, what: &str, target: IpAddr) -> io::Result<()> {
        if self.interrupt.pending() {
            return Ok(());
        }
        let patience = self.patience();
        self.report.check(what, REPLY, || {
            let elapsed = from.run(|| ping(target, patience))??;
            Ok(Observed {
                text: REPLY.into(),
                detail: format!("({:.2} ms)", elapsed.as_secs_f64() * 1e3),
            })
        })
    }

    fn ask(
        &mut self,
        from: &Namespace,
        what: &str,
        transport: Transport,
        target: SocketAddr,
        expected: &str,
    ) -> io::Result<()> {
        if self.interrupt.pending() {
            return Ok(());
        }
        let nonce = self.nonce(from);
        let patience = self.patience();
        self.report.check(what, expected, || {
            let answer = from.run(|| match transport {
                Transport::Tcp => ask_tcp(target, &nonce, patience),
                Transport::Udp => ask_udp(target, &nonce, patience),
            })??;
            Ok(Observed::from(says(&answer)))
        })
    }

    fn patience(&self) -> Duration {
        if self.report.failed() < FAILURES_UNTIL_HURRY { PATIENCE } else { HURRY }
    }

    fn nonce(&mut self, from: &Namespace) -> String {
        self.questions += 1;
        format!("{}-question-{}", from.name(), self.questions)
    }
}

fn says(answer: &Answer) -> String {
    format!("{} saw {}", answer.label, answer.seen_as.ip())
}

/// Turns the outcome of something that must fail into an observation.
fn refused<T>(
    outcome: io::Result<T>,
    describe: impl FnOnce(T) -> String,
) -> anyhow::Result<Observed> {
    Ok(match outcome {
        Ok(value) => Observed::from(describe(value)),
        Err(error) => Observed { text: UNREACHABLE.into(), detail: format!("({error})") },
    })
}
