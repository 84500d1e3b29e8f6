//! Numbers of this process, read from `/proc` under the names that every exporter uses for them.

use std::fs;

use prometheus::{Counter, Gauge, Opts};

use super::handles::Maker;

/// What `/proc/self/stat` counts in. The kernel gives user space a hundred ticks a second on every architecture that
/// we build for (`USER_HZ`), whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    cpu: Counter,
    resident: Gauge,
    open_files: Gauge,
    max_files: Gauge,
}

impl Process {
    pub fn new(maker: &Maker) -> Self {
        let gauge = |name: &str, help: &str| maker.add(Gauge::with_opts(Opts::new(name, help)));
        let started = gauge("process_start_time_seconds", "When the process began, in seconds since 1970.");
        started.set(start_time().unwrap_or_default());
        let cpu = Opts::new("process_cpu_seconds_total", "User and system CPU time spent.");
        let process = Self {
            cpu: maker.add(Counter::with_opts(cpu)),
            resident: gauge("process_resident_memory_bytes", "Memory in use that is not swapped out."),
            open_files: gauge("process_open_fds", "Open file descriptors."),
            max_files: gauge("process_max_fds", "The soft limit on open file descriptors."),
        };
        process.refresh();
        process
    }

    /// Reads the numbers anew. What cannot be read keeps its last value.
    pub fn refresh(&self) {
        if let Some(seconds) = cpu_seconds() {
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(entries.count() as f64);
        }
        if let Some(limit) = max_files() {
            self.max_files.set(limit);
        }
    }
}

/// Field `number` of `/proc/self/stat` as proc(5) counts them; fields from the third on, which stand behind the name.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let behind_name = stat.rsplit_once(')')?.1;
    behind_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    Some((stat_field(&stat, 14)? + stat_field(&stat, 15)?) / TICKS_PER_SECOND)
}

fn start_time() -> Option<f64> {
    let since_boot = stat_field(&fs::read_to_string("/proc/self/stat").ok()?, 22)? / TICKS_PER_SECOND;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + since_boot)
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
}

fn max_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, max_files, resident_bytes, start_time, stat_field};

    #[test]
    fn fields_are_counted_behind_a_name_with_spaces_and_brackets() {
        let stat = "7 (a ) b) S 4 5 6 7 8 9 10 11 12 13 250 50 16";
        assert_eq!(stat_field(stat, 14), Some(250.0));
        assert_eq!(stat_field(stat, 15), Some(50.0));
        assert_eq!(stat_field(stat, 99), None);
    }

    #[test]
    fn this_process_has_all_numbers() {
        assert!(cpu_seconds().is_some() && max_files().is_some());
        assert!(resident_bytes().unwrap() > 1e5);
        assert!(start_time().unwrap() > 1e9);
    }
}
