//! The virtualization host of the benchmark: fast, so that it is not what is measured.
//!
//! It takes its VM's super-packets, cuts them and puts NVGRE in front of the pieces, on the
//! gateway's own ports and headers. The host of the demo and of the tests shares nothing with the
//! gateway, so that the two check each other, and takes a system call a frame.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use arrayvec::ArrayVec;
use nvgate::demo::lab::Namespace;
use nvgate::io::packet::{Admit, PortOptions, Rx, Tx, Waker, open, wait};
use nvgate_model::{FlowId, Vsid};
use nvgate_nvgre::encap::{HEADER_LENGTH_V4, OuterTemplate};
use nvgate_packet::buf::{Offload, PacketBuf};
use nvgate_packet::headers::{ETHERNET_LENGTH, Headers};
use nvgate_packet::segment::{MAX_HEAD, Segments};

/// In front of the IP header of a segment on the fabric.
const ROOM: usize = HEADER_LENGTH_V4 + ETHERNET_LENGTH;
/// How often it looks whether it is to stop.
const WAIT: Duration = Duration::from_millis(50);

/// A running host. Ends when dropped.
pub struct FastHost {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FastHost {
    /// Starts the host in `namespace`: its VM is on the link `vm`, whose MAC address must be the
    /// gateway's inner one, and its frames go to the link `fabric` by `template`.
    pub fn start(
        namespace: &Namespace,
        (vm, fabric): (&str, &str),
        vsid: Vsid,
        template: OuterTemplate,
    ) -> Result<Self> {
        let end = |link, admit| {
            let workers = NonZeroUsize::MIN;
            let ring_slots = PortOptions::RING_SLOTS;
            open(&PortOptions { link, admit, workers, ring_slots })
                .map(|mut ends| ends.pop().expect("a pair of ends a worker"))
        };
        let ((vm_rx, vm_tx), (fabric_rx, fabric_tx)) = namespace
            .run(|| Ok::<_, anyhow::Error>((end(vm, Admit::Ip)?, end(fabric, Admit::Gre)?)))??;
        let waker = Waker::new()?;
        let mut carrier = Carrier { vm_rx, vm_tx, fabric_rx, fabric_tx, waker, vsid, template };
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = namespace.spawn("fast-host", move || carrier.carry(&flag))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for FastHost {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already said so.
            drop(thread.join());
        }
    }
}

struct Carrier {
    vm_rx: Rx,
    vm_tx: Tx,
    fabric_rx: Rx,
    fabric_tx: Tx,
    waker: Waker,
    vsid: Vsid,
    template: OuterTemplate,
}

impl Carrier {
    fn carry(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let mut batch = ArrayVec::new();
            let mut taken = self.vm_rx.receive(&mut batch);
            for packet in &mut batch {
                // The benchmark fails for want of traffic when frames are lost here.
                let _ = encapsulate(&mut self.fabric_tx, packet, self.vsid, &self.template);
            }
            drop(batch);
            let mut batch = ArrayVec::new();
            taken += self.fabric_rx.receive(&mut batch);
            for packet in &mut batch {
                packet.strip(HEADER_LENGTH_V4);
                let _ = self.vm_tx.send(packet.bytes(), &[], Offload::default());
            }
            drop(batch);
            self.fabric_tx.flush();
            self.vm_tx.flush();
            if taken == 0 {
                let mut ports = [&mut self.vm_rx, &mut self.fabric_rx];
                // An interrupted wait only costs one more turn.
                let _ = wait(&mut ports, &self.waker, WAIT);
            }
        }
    }
}

/// Sends a VM's frame, or the pieces of its super-packet, in NVGRE.
fn encapsulate(
    tx: &mut Tx,
    frame: &mut PacketBuf<'_>,
    vsid: Vsid,
    template: &OuterTemplate,
) -> Option<()> {
    let Some(gso) = frame.offload().gso else {
        frame.complete_checksum();
        let length = frame.len();
        let outer = frame.prepend::<HEADER_LENGTH_V4>().ok()?;
        template.write(outer, vsid, FlowId::default(), 0, length, 0).ok()?;
        return tx.send(frame.bytes(), &[], Offload::default()).ok();
    };
    let mut head = [0; ROOM + MAX_HEAD];
    head[HEADER_LENGTH_V4..ROOM].copy_from_slice(&frame.bytes()[..ETHERNET_LENGTH]);
    frame.strip(ETHERNET_LENGTH);
    let headers = Headers::parse(frame.bytes()).ok()?;
    let mut segments =
        Segments::new(frame.bytes(), &headers, gso, frame.offload().checksum).ok()?;
    while let Some(segment) = segments.next(&mut head[ROOM..]) {
        let payload = &frame.bytes()[segment.payload];
        let inner = ETHERNET_LENGTH + segment.head_length + payload.len();
        template.write(&mut head, vsid, FlowId::default(), 0, inner, 0).ok()?;
        tx.send(&head[..ROOM + segment.head_length], payload, Offload::default()).ok()?;
    }
    Some(())
}
