//! What the demo shows: each way of a packet through the gateway, and that no way leads from one
//! tenant to the other.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use super::interrupt::Interrupt;
use super::lab::Namespace;
use super::lab::probe::{Answer, Service, ask_tcp, ask_udp, download, ping};
use super::premises::{self, Premises};
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
/// How long a BGP session may take to come up.
const BGP_PATIENCE: Duration = Duration::from_secs(10);
/// How often something is looked at that takes its time.
const LOOK: Duration = Duration::from_millis(50);
const DOWNLOAD_PATIENCE: Duration = Duration::from_secs(15);

const REPLY: &str = "echo reply";
const UNREACHABLE: &str = "unreachable";

type Step<'a, W> = fn(&mut Checks<'a, W>) -> io::Result<()>;

/// Makes every check, in order, until done or interrupted.
pub fn run<W: Write>(
    site: &Site,
    premises: &Premises,
    report: &mut Report<W>,
    interrupt: &Interrupt,
) -> io::Result<()> {
    let mut checks = Checks { site, premises, report, interrupt, questions: 0 };
    let steps: [Step<'_, W>; 13] = [
        Checks::default_gateways,
        Checks::inside_a_tenant,
        Checks::outbound,
        Checks::inbound,
        Checks::same_address_of_two_tenants,
        Checks::address_of_the_other_tenant,
        Checks::bulk,
        Checks::the_way_to_premises,
        Checks::the_way_from_premises,
        Checks::bulk_from_premises,
        Checks::what_premises_teach,
        Checks::what_premises_take_back,
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
    premises: &'a Premises,
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
        let what = format!("red-web downloads {} MB through NAT", DOWNLOAD_BYTES / 1_000_000);
        self.download(&what, SERVER, DOWNLOAD_BYTES)
    }

    /// The address of the premises' host is another host in each tenant.
    fn the_way_to_premises(&mut self) -> io::Result<()> {
        for Tenant { name, .. } in TENANTS {
            let web = self.site.vm(&format!("{name}-web"));
            let host = premises::HOST;
            self.ping(
                &web.namespace,
                &format!("{name}-web pings {host} on its premises, by tunnel"),
                host.into(),
            )?;
            let expected = format!("{name}-premises saw {}", web.ipv4);
            for (transport, verb) in [(Transport::Tcp, "TCP"), (Transport::Udp, "UDP")] {
                let what = format!("{name}-web asks {host}, which both have, {verb}");
                let target = (host, SERVICE_PORT).into();
                self.ask(&web.namespace, &what, transport, target, &expected)?;
            }
        }
        Ok(())
    }

    fn the_way_from_premises(&mut self) -> io::Result<()> {
        for (tenant, host) in TENANTS.into_iter().zip(&self.premises.hosts) {
            let Tenant { name, public, .. } = tenant;
            let web = self.site.vm(&format!("{name}-web")).ipv4;
            let expected = format!("{name}-web saw {}", premises::HOST);
            for (transport, verb) in [(Transport::Tcp, "TCP"), (Transport::Udp, "UDP")] {
                let what = format!("{name}'s premises ask {web}, {verb}");
                let target = (web, SERVICE_PORT).into();
                self.ask(&host.namespace, &what, transport, target, &expected)?;
            }
            let server = SocketAddr::from((SERVER, SERVICE_PORT));
            if tenant.premises_use_nat {
                let what = format!("{name}'s premises ask the server through NAT, TCP");
                let expected = format!("server saw {public}");
                self.ask(&host.namespace, &what, Transport::Tcp, server, &expected)?;
            } else {
                let what = format!("{name}'s premises, which may not, ask the server, TCP");
                let nonce = self.nonce(&host.namespace);
                self.report.check(&what, UNREACHABLE, || {
                    let outcome = host.namespace.run(|| ask_tcp(server, &nonce, REFUSAL))?;
                    refused(outcome, |answer| says(&answer))
                })?;
            }
        }
        Ok(())
    }

    fn bulk_from_premises(&mut self) -> io::Result<()> {
        let bytes = premises::DOWNLOAD_BYTES;
        let what = format!("red-web downloads {} MB from its premises", bytes / 1_000_000);
        self.download(&what, premises::HOST, bytes)
    }

    /// Both premises teach one and the same prefix by BGP.
    fn what_premises_teach(&mut self) -> io::Result<()> {
        let interrupt = self.interrupt;
        for (Tenant { name, .. }, host) in TENANTS.into_iter().zip(&self.premises.hosts) {
            let patience = self.patience() + BGP_PATIENCE;
            let what = format!("{name}'s premises hear by BGP of its subnets");
            self.report.check(&what, "10.1.0.0/24, 10.2.0.0/24", || {
                let began = Instant::now();
                let heard = || {
                    let prefixes = host.router.heard();
                    prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                };
                while heard().is_empty() && began.elapsed() < patience && !interrupt.pending() {
                    thread::sleep(LOOK);
                }
                Ok(Observed::from(heard()))
            })?;
            let web = self.site.vm(&format!("{name}-web"));
            let target = premises::TAUGHT_HOST;
            let what = format!("{name}-web pings {target}, which BGP taught");
            self.ping(&web.namespace, &what, target.into())?;
            let what = format!("{name}-web asks {target}, TCP");
            let expected = format!("{name}-premises saw {}", web.ipv4);
            let target = (target, SERVICE_PORT).into();
            self.ask(&web.namespace, &what, Transport::Tcp, target, &expected)?;
        }
        Ok(())
    }

    fn what_premises_take_back(&mut self) -> io::Result<()> {
        let target = IpAddr::from(premises::TAUGHT_HOST);
        let [red, blue] = ["red-web", "blue-web"].map(|name| &self.site.vm(name).namespace);
        self.premises.hosts[0].router.withdraw();
        let what = format!("red-web pings {target} after red's premises took it back");
        let interrupt = self.interrupt;
        self.report.check(&what, UNREACHABLE, || {
            let began = Instant::now();
            loop {
                let outcome = red.run(|| ping(target, REFUSAL))?;
                if outcome.is_err() || began.elapsed() > PATIENCE || interrupt.pending() {
                    break refused(outcome, |_| REPLY.into());
                }
                thread::sleep(LOOK);
            }
        })?;
        self.ping(blue, &format!("blue-web pings {target}, which blue's still teach"), target)
    }

    fn download(&mut self, what: &str, from: Ipv4Addr, bytes: u64) -> io::Result<()> {
        let vm = &self.site.vm("red-web").namespace;
        let interrupt = self.interrupt;
        let expected = format!("{bytes} bytes, all right");
        self.report.check(what, &expected, || {
            let target = SocketAddr::from((from, DOWNLOAD_PORT));
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
            let what = format!("questions that {name} received from the other tenant");
            self.report.check(&what, "0", || {
                let other = TENANTS[1 - index].name;
                let vms = self.site.vms.iter().filter(|vm| vm.tenant == index);
                let seen = vms
                    .map(|vm| &vm.service)
                    .chain([&self.premises.hosts[index].service])
                    .flat_map(Service::seen);
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
