//! A stack for expressions: a parser goes one call deeper for each operator and parenthesis.

/// Bytes of the stack: ten times what the deepest expression within the limits takes without optimization.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Runs `work` on a thread with a large stack; `None` if there is no thread, or it panicked.
pub(super) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}
