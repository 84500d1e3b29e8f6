//! How the process gives memory back.
//!
//! The allocator of glibc keeps an arena for every few threads and raises the size from which it asks the kernel for
//! memory of its own: after a burst of large mails hundreds of megabytes stay with the process. Two arenas and a fixed
//! size keep it near what is in use, and cost nothing that can be measured. What is free between pieces that live long
//! goes back from time to time, where it is much. Other allocators are left as they are.

/// Buffers of this many bytes and more go straight back to the kernel when they are freed: those of large mails.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 << 10;
/// How many arenas threads share.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Tells the allocator to keep little; called once, before there are other threads.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, ARENAS), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
    {
        // SAFETY: mallopt takes two integers and keeps no pointer; nothing else runs yet (mallopt(3)). A refused value
        // leaves the allocator as it was, which is no fault.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}

/// Memory that is free and not given back, from which on it is, in bytes.
#[cfg(target_env = "gnu")]
const SPARE: usize = 8 << 20;
/// How often that is looked at.
#[cfg(target_env = "gnu")]
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// Starts a thread that gives back what lies free between pieces in use, which freeing alone never does. It ends with the
/// process, and looks closer only while the memory of the process changes.
pub fn give_back() -> std::io::Result<()> {
    #[cfg(target_env = "gnu")]
    std::thread::Builder::new().name("memory".into()).spawn(|| {
        let mut seen = 0;
        loop {
            std::thread::park_timeout(LOOK_EVERY);
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let resident = resident(&status).unwrap_or(0);
            if resident.abs_diff(seen) > SPARE / 8 && resident.saturating_sub(in_use()) > SPARE {
                trim();
            }
            seen = resident;
        }
    })?;
    Ok(())
}

/// The bytes in memory that no file is behind, by the status file of a process (proc_pid_status(5)).
#[cfg(target_env = "gnu")]
fn resident(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The bytes that are in use, in all arenas and beside them.
#[cfg(target_env = "gnu")]
fn in_use() -> usize {
    // SAFETY: mallinfo2 takes nothing and returns numbers; it locks each arena while it counts (mallinfo(3)).
    #[allow(unsafe_code)]
    let told = unsafe { libc::mallinfo2() };
    told.uordblks.saturating_add(told.hblkhd)
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim gives only pages back that hold nothing in use, and locks each arena meanwhile (malloc_trim(3)).
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(target_env = "gnu")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_has_and_uses_is_read() {
        assert_eq!(resident("Name:\tx\nRssAnon:\t    2048 kB\nRssFile:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
        let kept = vec![1u8; 1 << 20];
        assert!(in_use() > kept.len());
        trim();
        assert!(kept.iter().all(|byte| *byte == 1));
        assert!(resident(&std::fs::read_to_string("/proc/self/status").unwrap()).is_some_and(|own| own > kept.len()));
    }
}
