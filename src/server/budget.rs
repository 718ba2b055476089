//! Budget of the bytes that all request bodies and responses hold together.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Budget of bytes. Clones share it.
///
/// A part of it is a reserve for small bodies and responses, so that a few large ones never cause an ordinary review to
/// be rejected.
#[derive(Clone, Debug)]
pub(super) struct ByteBudget {
    common: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    held: Gauge<i64, AtomicI64>,
}

/// The claim would exceed the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BudgetExceeded;

impl ByteBudget {
    /// Budget of `total` bytes, of which `reserve` are for small claims. `held` is the gauge of claimed bytes.
    pub(super) fn new(total: u32, reserve: u32, held: Gauge<i64, AtomicI64>) -> Self {
        let permits = |bytes: u32| Arc::new(Semaphore::new(bytes as usize));
        Self {
            common: permits(total.saturating_sub(reserve)),
            reserve: permits(reserve),
            held,
        }
    }

    /// Claim to zero bytes. If it is `small`, it may grow into the reserve.
    pub(super) fn claim(&self, small: bool) -> ByteClaim {
        ByteClaim {
            budget: self.clone(),
            small,
            common: None,
            reserve: None,
        }
    }
}

/// Claim to the bytes of a body or response, released on drop.
#[derive(Debug)]
pub(super) struct ByteClaim {
    budget: ByteBudget,
    small: bool,
    common: Option<OwnedSemaphorePermit>,
    reserve: Option<OwnedSemaphorePermit>,
}

impl ByteClaim {
    /// Claims `more` bytes: all of them or none.
    pub(super) fn grow(&mut self, more: usize) -> Result<(), BudgetExceeded> {
        let more = u32::try_from(more).map_err(|_| BudgetExceeded)?;
        let take = |permits: &Arc<Semaphore>| {
            Arc::clone(permits)
                .try_acquire_many_owned(more)
                .map_err(|_| BudgetExceeded)
        };
        match take(&self.budget.common) {
            Ok(permits) => add(&mut self.common, permits),
            Err(BudgetExceeded) if self.small => {
                add(&mut self.reserve, take(&self.budget.reserve)?);
            }
            Err(BudgetExceeded) => return Err(BudgetExceeded),
        }
        self.budget.held.inc_by(i64::from(more));
        Ok(())
    }
}

fn add(held: &mut Option<OwnedSemaphorePermit>, permits: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(permits),
        None => *held = Some(permits),
    }
}

impl Drop for ByteClaim {
    fn drop(&mut self) {
        let permits = [&self.common, &self.reserve].into_iter().flatten();
        let held: usize = permits.map(OwnedSemaphorePermit::num_permits).sum();
        self.budget
            .held
            .dec_by(i64::try_from(held).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_for_small_claims_and_all_bytes_are_released() {
        let held = Gauge::<i64, AtomicI64>::default();
        let budget = ByteBudget::new(100, 20, held.clone());
        let mut large = budget.claim(false);
        assert_eq!(large.grow(81), Err(BudgetExceeded));
        assert_eq!(large.grow(80), Ok(()));
        assert_eq!(large.grow(1), Err(BudgetExceeded));
        let mut small = budget.claim(true);
        assert_eq!(small.grow(21), Err(BudgetExceeded));
        assert_eq!(
            (small.grow(5), small.grow(15), small.grow(1)),
            (Ok(()), Ok(()), Err(BudgetExceeded))
        );
        assert_eq!(held.get(), 100);
        drop(large);
        assert_eq!((small.grow(1), held.get()), (Ok(()), 21));
        drop(small);
        assert_eq!(held.get(), 0);
        assert_eq!(budget.claim(false).grow(80), Ok(()));
    }
}
