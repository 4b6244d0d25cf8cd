//! Settings of the C library's allocator.

/// Lets this process keep freed memory for its next allocations instead of returning it to the system.
///
/// Activations and gradients of a training step are allocated and freed in every step. By default glibc maps large
/// blocks one by one and shrinks its heap when they are freed, so that the system hands out the same gigabytes as new,
/// zeroed pages in each step, a page fault for every 4 KiB: on a virtual machine a quarter of the processor time. Peak
/// memory of steps that are alike does not change; [`return_freed_memory`] is for the moments between those that are
/// not. Without effect on systems without glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::keep_freed_memory();
}

/// Returns the memory that is free now to the system. Call it between two kinds of work (encoding, training,
/// answering), which use other threads and other sizes: each would add its own peak to what the one before has kept.
/// Without effect on systems without glibc.
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::return_freed_memory();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;

    // Parameters of `mallopt`, from glibc's `malloc.h`.
    /// Size of free memory at the heap's end, in bytes, from which on it is returned; −1 never returns it.
    const M_TRIM_THRESHOLD: c_int = -1;
    /// Number of bytes by which the heap grows beyond a request.
    const M_TOP_PAD: c_int = -2;
    /// Largest number of blocks that are mapped one by one.
    const M_MMAP_MAX: c_int = -4;

    /// Growth of the heap in bytes: large enough that it grows rarely.
    const GROWTH: c_int = 1 << 24;

    #[allow(unsafe_code, reason = "functions of the C library")]
    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
        fn malloc_trim(left: usize) -> c_int;
    }

    #[allow(unsafe_code, reason = "the allocator has no other interface for its settings")]
    pub fn keep_freed_memory() {
        for (parameter, value) in [(M_TRIM_THRESHOLD, -1), (M_TOP_PAD, GROWTH), (M_MMAP_MAX, 0)] {
            // SAFETY: `mallopt` may be called at any time and takes any parameter and value; it takes the allocator's
            // own lock. It returns 0 for what it does not know, which leaves the default.
            unsafe { mallopt(parameter, value) };
        }
    }

    #[allow(unsafe_code, reason = "the allocator has no other interface for it")]
    pub fn return_freed_memory() {
        // SAFETY: `malloc_trim` may be called at any time; it takes the allocator's own locks and touches only pages
        // that are free.
        unsafe { malloc_trim(0) };
    }
}
