//! How the process gives memory back.
//!
//! The allocator of glibc keeps an arena for every few threads and raises the size from which it asks the kernel for
//! memory of its own: after a burst of large mails hundreds of megabytes stay with the process. Two arenas and a fixed
//! size keep it near what is in use, and cost nothing that can be measured. Other allocators are left as they are.

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
