//! Buffers whose bytes are claimed from the budget of all bodies and responses.

use bytes::{Buf, Bytes};

use super::rejection::BodyRejection;
use crate::server::budget::{BudgetExceeded, ByteClaim};

/// Size of the first allocation for a body whose length is large or not announced.
const FIRST_ALLOCATION_BYTES: usize = 16 << 10;

/// Bytes of a body or response, and their claim.
///
/// The claim of a body grows with the bytes that have arrived, not with the announced length: otherwise four
/// connections that announce 8 MiB and send nothing would block everyone. It counts the capacity, because that is what
/// is allocated.
pub(super) struct BudgetedBuffer {
    pub(super) data: Vec<u8>,
    pub(super) claim: ByteClaim,
}

impl BudgetedBuffer {
    /// Appends a frame to a body of `expected` bytes; more than `max` are rejected.
    pub(super) fn append(
        &mut self,
        frame: &mut Bytes,
        expected: usize,
        max: usize,
    ) -> Result<(), BodyRejection> {
        let needed = self.data.len() + frame.len();
        if needed > max {
            return Err(BodyRejection::TooLarge);
        }
        if needed > self.data.capacity() {
            self.reserve(
                needed
                    .max(self.data.capacity() * 2)
                    .max(FIRST_ALLOCATION_BYTES)
                    .min(expected.max(needed)),
            )?;
        }
        self.data.extend_from_slice(frame);
        frame.advance(frame.len());
        Ok(())
    }

    fn reserve(&mut self, capacity: usize) -> Result<(), BodyRejection> {
        self.claim
            .grow(capacity - self.data.capacity())
            .map_err(|BudgetExceeded| BodyRejection::Overloaded)?;
        self.data.reserve_exact(capacity - self.data.len());
        Ok(())
    }
}

impl AsRef<[u8]> for BudgetedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}
