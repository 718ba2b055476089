//! The bytes that request bodies and answers hold together.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of all bytes that are held. Clones share them.
///
/// A part of them is a reserve for small bodies and answers: what a few large ones hold never turns an ordinary review
/// away.
#[derive(Clone, Debug)]
pub(super) struct ByteBudget {
    common: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    held: Gauge<i64, AtomicI64>,
}

/// There is no room for the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl ByteBudget {
    /// A budget of `total` bytes, `reserve` of them for small claims. `held` shows what is taken.
    pub(super) fn new(total: u32, reserve: u32, held: Gauge<i64, AtomicI64>) -> Self {
        let places = |bytes: u32| Arc::new(Semaphore::new(bytes as usize));
        Self {
            common: places(total.saturating_sub(reserve)),
            reserve: places(reserve),
            held,
        }
    }

    /// A claim to no bytes yet; when it is `small`, it may grow into the reserve.
    pub(super) fn claim(&self, small: bool) -> ByteClaim {
        ByteClaim {
            budget: self.clone(),
            small,
            common: None,
            reserve: None,
        }
    }
}

/// The places of one body's or answer's bytes, given back on drop.
#[derive(Debug)]
pub(super) struct ByteClaim {
    budget: ByteBudget,
    small: bool,
    common: Option<OwnedSemaphorePermit>,
    reserve: Option<OwnedSemaphorePermit>,
}

impl ByteClaim {
    /// Takes places for `more` bytes: all of them or none.
    pub(super) fn grow(&mut self, more: usize) -> Result<(), NoRoom> {
        let more = u32::try_from(more).map_err(|_| NoRoom)?;
        let take = |places: &Arc<Semaphore>| {
            Arc::clone(places)
                .try_acquire_many_owned(more)
                .map_err(|_| NoRoom)
        };
        match take(&self.budget.common) {
            Ok(places) => add(&mut self.common, places),
            Err(NoRoom) if self.small => add(&mut self.reserve, take(&self.budget.reserve)?),
            Err(NoRoom) => return Err(NoRoom),
        }
        self.budget.held.inc_by(i64::from(more));
        Ok(())
    }
}

fn add(held: &mut Option<OwnedSemaphorePermit>, places: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(places),
        None => *held = Some(places),
    }
}

impl Drop for ByteClaim {
    fn drop(&mut self) {
        let places = [&self.common, &self.reserve].into_iter().flatten();
        let held: usize = places.map(OwnedSemaphorePermit::num_permits).sum();
        self.budget
            .held
            .dec_by(i64::try_from(held).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_claims_reach_into_the_reserve_and_every_byte_comes_back() {
        let held = Gauge::<i64, AtomicI64>::default();
        let budget = ByteBudget::new(100, 20, held.clone());
        let mut large = budget.claim(false);
        assert_eq!(large.grow(81), Err(NoRoom));
        assert_eq!(large.grow(80), Ok(()));
        assert_eq!(large.grow(1), Err(NoRoom));
        let mut small = budget.claim(true);
        assert_eq!(small.grow(21), Err(NoRoom));
        assert_eq!(
            (small.grow(5), small.grow(15), small.grow(1)),
            (Ok(()), Ok(()), Err(NoRoom))
        );
        assert_eq!(held.get(), 100);
        drop(large);
        assert_eq!((small.grow(1), held.get()), (Ok(()), 21));
        drop(small);
        assert_eq!(held.get(), 0);
        assert_eq!(budget.claim(false).grow(80), Ok(()));
    }
}
