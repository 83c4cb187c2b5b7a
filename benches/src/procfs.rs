//! CPU time and memory of processes, as the kernel counts them.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// Ticks in a second in the figures of the kernel, on every Linux.
const TICKS: u64 = 100;

/// CPU time of a process since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    /// In all.
    pub(crate) total: Duration,
    /// In the process itself, and not in the kernel; in steps of 10 ms.
    pub(crate) user: Duration,
}

impl Cpu {
    /// CPU time of a process and all its threads.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        let mut cpu = Self::read(&stat).with_context(|| format!("CPU time in {stat:?}"))?;
        // Exact, but without the threads that have ended.
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            nanos += text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        }
        cpu.total = cpu.total.max(Duration::from_nanos(nanos));
        Ok(cpu)
    }

    /// The figures of `/proc/PID/stat`.
    fn read(stat: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
        let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
        let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS);
        Some(Self {
            total: time(user + system),
            user: time(user),
        })
    }

    /// CPU time since an earlier look.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
        }
    }
}

/// Resident memory of a process, in kB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    /// The largest so far, pages of the program's file included.
    pub(crate) peak: u64,
    /// Its own memory now: the heap and the stacks, without pages of files.
    pub(crate) own: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Self::read(&status).context("no VmHWM and RssAnon in /proc/PID/status")
    }

    fn read(status: &str) -> Option<Self> {
        let kb = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.trim().parse().ok()
        };
        Some(Self {
            peak: kb("VmHWM:")?,
            own: kb("RssAnon:")?,
        })
    }
}

/// The name of the processor.
pub(crate) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown processor", |(_, name)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "17 (a) b) S 1 17 17 0 -1 4194560 9 0 0 0 150 25 0 0 20 0 3 0 7 8 9";
        let cpu = Cpu::read(stat).unwrap();
        assert_eq!(cpu.user, Duration::from_millis(1500));
        assert_eq!(cpu.total, Duration::from_millis(1750));
        assert_eq!(Cpu::read("17 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_used_some() {
        let pid = std::process::id();
        let before = Cpu::of(pid).unwrap();
        let mut sum = 0_u64;
        while Cpu::of(pid).unwrap().since(before).total.is_zero() {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let memory = Memory::of(pid).unwrap();
        assert!(memory.own > 10 && memory.peak > memory.own, "{memory:?}");
    }

    #[test]
    fn memory_is_read() {
        let status = "Name:\ta\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\nRssAnon:\t     567 kB\n";
        assert_eq!(Memory::read(status), Some(Memory { peak: 1234, own: 567 }));
        assert_eq!(Memory::read("Name:\ta\n"), None);
    }
}
