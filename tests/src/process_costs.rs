//! What a process costs, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The field of /proc/PID/status with the most memory that a process has had.
pub const MOST_MEMORY: &str = "VmHWM:";
/// That with the memory that it has.
pub const MEMORY: &str = "VmRSS:";
/// The kernel's thread names end after 15 bytes.
const SPEAKER: &str = "(nvgate-speaker";

/// Bytes of memory of a process, by a field of /proc/PID/status.
///
/// # Errors
///
/// The kernel does not say.
pub fn memory(process: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(kilobytes.context("a size")?.parse::<u64>()? * 1024)
}

/// Time of a core that a process has used, in all its threads.
///
/// # Errors
///
/// There is no such process.
pub fn working(process: u32) -> Result<Duration> {
    Ok(read(&format!("/proc/{process}/stat"))?.1)
}

/// Time of a core that the thread of a gateway which speaks BGP has used.
///
/// # Errors
///
/// There is no such thread.
pub fn speaking(process: u32) -> Result<Duration> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let (name, used) = read(&task?.path().join("stat").to_string_lossy())?;
        if name.ends_with(SPEAKER) {
            return Ok(used);
        }
    }
    bail!("no thread speaks BGP")
}

/// What stands before the end of the name, and the time used, in a `stat` of proc(5).
fn read(path: &str) -> Result<(String, Duration)> {
    let stat = fs::read_to_string(path)?;
    let (name, fields) = stat.rsplit_once(')').context("a name")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let [user, system] = [11, 12].map(|field| fields.get(field).context("a time"));
    let ticks = user?.parse::<u64>()? + system?.parse::<u64>()?;
    // Linux counts in hundredths of a second towards processes.
    Ok((name.to_owned(), Duration::from_millis(ticks * 10)))
}
