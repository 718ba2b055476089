//! Value that a handler keeps for all requests of a connection.

use std::any::Any;
use std::sync::{Arc, OnceLock};

/// Place for one value, which lives as long as its connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ConnectionState(Arc<OnceLock<Box<dyn Any + Send + Sync>>>);

impl ConnectionState {
    /// Value of the connection, made by the first request. `None` if another handler has put a value of another type.
    pub fn get_or_init<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(init())).downcast_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_made_once_and_shared_by_clones() {
        let state = ConnectionState::default();
        assert_eq!(state.clone().get_or_init(|| 1_u32), Some(&1));
        assert_eq!(state.get_or_init(|| 2_u32), Some(&1));
        assert_eq!(state.get_or_init(String::new), None);
    }
}
