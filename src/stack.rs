//! A large stack for parsers: they go one call deeper for each level of their input, whatever the caller's stack is.

/// Runs `work` on a thread with a stack of `bytes`; `None` if the system has no thread, or the work panicked.
pub(crate) fn on_large_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(bytes);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}
