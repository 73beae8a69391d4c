//! The system calls of packet sockets, each behind a function that cannot be misused.

use std::ffi::CStr;
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;

use libc::{c_int, c_uint, c_void, socklen_t};

use super::BATCH;

/// Turns -1 into the thread's errno.
pub fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A raw packet socket that receives nothing until it is bound.
pub fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes no pointers; the descriptor it returns is owned by nobody else.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_PACKET, kind, 0))?)) }
}

/// Sets a socket option whose value the kernel reads as plain bytes.
pub fn set<T: Copy>(fd: &impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let value = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: `value` points to `size_of::<T>()` readable bytes for the time of the call.
    let result = unsafe {
        let length = size_of::<T>() as socklen_t;
        libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, value, length)
    };
    checked(result).map(|_| ())
}

/// Reads a socket option. `T` must be an integer or a struct of integers.
pub fn get<T: Copy>(fd: &impl AsFd, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`; what it leaves is zero, and
    // any bytes are a valid `T`, which the callers in this folder see to.
    unsafe {
        let result = libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        );
        checked(result).map(|_| value.assume_init())
    }
}

/// The index of a link by its name.
pub fn link_index(name: &CStr) -> Option<c_uint> {
    // SAFETY: `name` is a NUL-terminated string.
    Some(unsafe { libc::if_nametoindex(name.as_ptr()) }).filter(|&index| index != 0)
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug)]
pub struct LinkState {
    /// Whether it is administratively up.
    pub up: bool,
    /// `ARPHRD_*`.
    pub hardware_type: u16,
}

/// Asks for a link's flags and hardware type.
pub fn link_state(fd: &impl AsFd, name: &str) -> io::Result<LinkState> {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: both calls read the name and write one member of the union of `request`, which is
    // the member read after each.
    unsafe {
        checked(libc::ioctl(fd, libc::SIOCGIFFLAGS as _, &raw mut request))?;
        let up = c_int::from(request.ifr_ifru.ifru_flags) & libc::IFF_UP != 0;
        checked(libc::ioctl(fd, libc::SIOCGIFHWADDR as _, &raw mut request))?;
        Ok(LinkState { up, hardware_type: request.ifr_ifru.ifru_hwaddr.sa_family })
    }
}

/// Binds to a link: from now on frames of `protocol` (host byte order) arrive, none with 0.
pub fn bind(fd: &impl AsFd, link: c_uint, protocol: c_int) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`, and its size is the length given.
    unsafe {
        let mut address: libc::sockaddr_ll = zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex = link.cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as socklen_t;
        checked(libc::bind(fd.as_fd().as_raw_fd(), (&raw const address).cast(), length))?;
    }
    Ok(())
}

/// Attaches a classic BPF program to a socket.
pub fn attach(fd: &impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // The kernel copies the program during the call and does not write to it.
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Has the link receive every multicast group while the socket is open.
pub fn receive_multicast(fd: &impl AsFd, link: c_uint) -> io::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: link.cast_signed(),
        mr_type: libc::PACKET_MR_ALLMULTI as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

/// Joins the sockets of one port, so that each flow reaches one of them. The first gets a new
/// group, whose number the others are given.
pub fn join_fanout(fd: &impl AsFd, group: Option<u16>) -> io::Result<u16> {
    let mut kind = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    if group.is_none() {
        kind |= libc::PACKET_FANOUT_FLAG_UNIQUEID;
    }
    let request = kind << 16 | u32::from(group.unwrap_or(0));
    set(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &request)?;
    let joined: u32 = get(fd, libc::SOL_PACKET, libc::PACKET_FANOUT)?;
    Ok((joined & 0xffff) as u16)
}

/// Reads and clears a socket's pending error, which would otherwise end every wait at once.
pub fn clear_error(fd: &impl AsFd) -> io::Result<()> {
    get::<c_int>(fd, libc::SOL_SOCKET, libc::SO_ERROR).map(|_| ())
}

/// Waits until one of `entries` is ready or the time is over; a signal ends it early.
pub fn poll(entries: &mut [libc::pollfd], timeout: Duration) -> io::Result<()> {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the pointer and count are those of one slice; the timeout outlives the call.
    let result = unsafe {
        libc::ppoll(
            entries.as_mut_ptr(),
            entries.len() as libc::nfds_t,
            &raw const timeout,
            std::ptr::null(),
        )
    };
    match checked(result) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// An event counter that does not block.
pub fn event() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers; the descriptor it returns is owned by nobody else.
    unsafe {
        let fd = checked(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Adds one to an event counter. A counter that is full stays readable, which is all that counts.
pub fn signal(event: &impl AsFd) {
    let one = 1_u64;
    // SAFETY: the pointer is to 8 readable bytes.
    unsafe {
        libc::write(event.as_fd().as_raw_fd(), (&raw const one).cast(), size_of::<u64>());
    }
}

/// Sets an event counter to zero.
pub fn drain(event: &impl AsFd) {
    let mut count = 0_u64;
    // SAFETY: the pointer is to 8 writable bytes.
    unsafe {
        libc::read(event.as_fd().as_raw_fd(), (&raw mut count).cast(), size_of::<u64>());
    }
}

/// Sends frames with one system call, without waiting. The first begins at `front` in `staged`,
/// each of `ends` (at least one, at most [`BATCH`]) is where one ends and the next begins. Returns
/// how many the kernel took, at least one; an error is about the first frame.
pub fn send(fd: &impl AsFd, staged: &[u8], front: usize, ends: &[usize]) -> io::Result<usize> {
    // SAFETY: all-zero bytes are valid for both structs: null pointers with zero lengths.
    let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
        unsafe { (zeroed(), zeroed()) };
    let count = ends.len().min(BATCH);
    let mut from = front;
    for ((&end, vector), header) in ends.iter().zip(&mut vectors).zip(&mut headers) {
        let frame = &staged[from..end];
        from = end;
        // The kernel only reads what is sent.
        vector.iov_base = frame.as_ptr().cast_mut().cast();
        vector.iov_len = frame.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: `count` headers are filled in; each points to one vector and that to a part of
    // `staged`, all of which outlive the call.
    let sent = unsafe {
        let fd = fd.as_fd().as_raw_fd();
        libc::sendmmsg(fd, headers.as_mut_ptr(), count as c_uint, libc::MSG_DONTWAIT as _)
    };
    match checked(sent)? {
        0 => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        sent => Ok(sent as usize),
    }
}

/// Memory shared with the kernel through a socket.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and has one owner.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes of what the socket offers. It is not inherited by children.
    pub fn new(fd: &impl AsFd, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses overlaps nothing.
        let base = unsafe {
            let fd = fd.as_fd().as_raw_fd();
            let base =
                libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0);
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            base
        };
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, length })
    }

    /// The first byte.
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is unmapped once; whoever borrows from it
        // borrows from the value being dropped.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.length);
        }
    }
}
