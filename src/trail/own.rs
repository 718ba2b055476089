//! Chain of the records that this process writes itself, straight into the store.
//!
//! A record is reported as appended when it is durable. An append that fails, takes too long or is cancelled may have
//! stored its lines all the same. So the next append first asks the store for the last number of the chain: lines that
//! were stored are kept, and the numbers of others are given to other records. The chain in the store has neither a gap
//! nor a second history then. Durable lines also go to standard output.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::output::TrailOutput;
use crate::audit::chain::{Chain, Line};
use crate::audit::emitter::Emitter;
use crate::audit::link::{ChainId, Tip};
use crate::audit::parts::parts;
use crate::audit::record::Record;
use crate::audit::signature::SigningKey;
use crate::clock::Clock;
use crate::recorder::{RecorderSettings, UNKNOWN_POD, record_id};
use crate::store::{AppendError, AuditStore, Batch, InvalidBatch, StoreError};

/// Records of one append. Each is one line, or up to 16 if it has many targets.
pub const MAX_RECORDS: usize = 64;

/// Time limit of an append. A volume that does not respond fails it, and the call that waits for it.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Reason why records were not appended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OwnTrailError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the records could not be appended: {0}")]
    Batch(#[from] InvalidBatch),
    #[error(
        "the store did not take a record within {} s: check its volume and retry",
        APPEND_TIMEOUT.as_secs()
    )]
    Timeout,
    #[error("the chain of this process has its last record: the program stops. Retry")]
    Ended,
}

impl From<StoreError> for OwnTrailError {
    fn from(error: StoreError) -> Self {
        Self::Append(error.into())
    }
}

/// Own chain of a process. Clones write to the same chain.
#[derive(Clone, Debug)]
pub struct OwnTrail(Arc<OwnTrailState>);

#[derive(Debug)]
struct OwnTrailState {
    store: Arc<dyn AuditStore>,
    settings: RecorderSettings,
    clock: Clock,
    output: TrailOutput,
    /// The lock gives records their order, and is held until they are durable.
    chain: Mutex<OwnChain>,
}

/// End of the chain.
#[derive(Debug)]
struct OwnChain {
    /// End as far as it is known to be durable.
    durable: Chain,
    /// Lines of an append whose result is not known.
    pending: Option<PendingLines>,
    has_ended: bool,
}

#[derive(Debug)]
struct PendingLines {
    lines: Vec<Line>,
    /// End of the chain after them.
    end: Chain,
}

/// Records of one append.
#[derive(Clone, Copy, Default)]
struct AppendOptions<'k> {
    key: Option<&'k SigningKey>,
    is_reserved: bool,
    is_last: bool,
}

impl OwnTrail {
    /// Starts the chain with `system.start`. If the store does not take that record now, it precedes the first one that
    /// the store takes.
    pub async fn start(
        store: &Arc<dyn AuditStore>,
        settings: RecorderSettings,
        clock: Clock,
        output: TrailOutput,
    ) -> Self {
        let chain = OwnChain {
            durable: Chain::new(settings.chain.clone()),
            pending: None,
            has_ended: false,
        };
        let trail = Self(Arc::new(OwnTrailState {
            store: Arc::clone(store),
            settings,
            clock,
            output,
            chain: Mutex::new(chain),
        }));
        if let Err(error) = trail.write(Vec::new(), AppendOptions::default()).await {
            tracing::warn!(%error, "the start of the audit trail's own chain is not stored yet");
        }
        trail
    }

    /// Maker of records with the names of this process, the time, and a new id.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        self.0.emitter()
    }

    #[must_use]
    pub fn chain_id(&self) -> &ChainId {
        &self.0.settings.chain
    }

    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Last line that is known to be durable.
    pub async fn tip(&self) -> Tip {
        self.0.chain.lock().await.durable.tip().clone()
    }

    /// Appends a record. Returns its number, or that of its last part, when it is durable.
    ///
    /// # Errors
    /// The record is not known to be stored. The store is full or failed, took too long, or the chain has ended.
    pub async fn append(&self, record: Record) -> Result<u64, OwnTrailError> {
        self.write(parts(record), AppendOptions::default()).await
    }

    /// Appends signed records, at most [`MAX_RECORDS`]. Returns the number of the last one.
    ///
    /// # Errors
    /// Errors of [`Self::append`].
    pub async fn append_signed(
        &self,
        records: Vec<Record>,
        key: &SigningKey,
    ) -> Result<u64, OwnTrailError> {
        let options = AppendOptions {
            key: Some(key),
            ..AppendOptions::default()
        };
        self.write(records, options).await
    }

    /// Appends signed announcements of a deletion, which a full store takes as well.
    ///
    /// # Errors
    /// Errors of [`Self::append`].
    pub async fn announce(
        &self,
        records: Vec<Record>,
        key: &SigningKey,
    ) -> Result<u64, OwnTrailError> {
        let options = AppendOptions {
            key: Some(key),
            is_reserved: true,
            ..AppendOptions::default()
        };
        self.write(records, options).await
    }

    /// Ends the chain with its last record. Later appends fail.
    pub async fn stop(&self) {
        let options = AppendOptions {
            is_last: true,
            ..AppendOptions::default()
        };
        let stop = self.emitter().stop();
        match self.write(vec![stop], options).await {
            Ok(_) | Err(OwnTrailError::Ended) => {}
            Err(error) => {
                tracing::warn!(%error, "the end of the audit trail's own chain is not stored");
            }
        }
        self.0.output.flush().await;
    }

    async fn write(
        &self,
        records: Vec<Record>,
        options: AppendOptions<'_>,
    ) -> Result<u64, OwnTrailError> {
        let write = async {
            let mut chain = self.0.chain.lock().await;
            self.0.append(&mut chain, records, options).await
        };
        let written = timeout(APPEND_TIMEOUT, write).await;
        written.unwrap_or(Err(OwnTrailError::Timeout))
    }
}

impl OwnTrailState {
    fn emitter(&self) -> Emitter {
        let time = self.clock.now();
        Emitter {
            cluster: self.settings.cluster.clone(),
            service: self.settings.service.clone(),
            time,
            id: record_id(time),
        }
    }

    /// Appends records to the chain, which stays consistent if this is cancelled.
    async fn append(
        &self,
        chain: &mut OwnChain,
        records: Vec<Record>,
        options: AppendOptions<'_>,
    ) -> Result<u64, OwnTrailError> {
        if chain.has_ended {
            return Err(OwnTrailError::Ended);
        }
        self.resolve_pending(chain).await?;
        let mut end = chain.durable.clone();
        let mut lines = Vec::with_capacity(records.len() + 1);
        if end.tip().seq == 0 {
            lines.push(end.append(self.start_record().await?));
        }
        for record in records {
            lines.push(match options.key {
                Some(key) => end.append_signed(record, key),
                None => end.append(record),
            });
        }
        if lines.is_empty() {
            return Ok(end.tip().seq);
        }
        let batch = Batch::parse(self.settings.chain.clone(), &joined(&lines))?;
        let batch = if options.is_reserved {
            batch.reserved()
        } else {
            batch
        };
        chain.pending = Some(PendingLines { lines, end });
        let appended = self.store.append(batch).await;
        match appended {
            Ok(_) => self.keep_pending(chain),
            Err(error) if !self.resolve_pending(chain).await? => return Err(error.into()),
            // Stored all the same.
            Err(_) => {}
        }
        chain.has_ended = options.is_last;
        Ok(chain.durable.tip().seq)
    }

    /// Finds out whether pending lines were stored. Returns `true` if so; otherwise their numbers are free again.
    async fn resolve_pending(&self, chain: &mut OwnChain) -> Result<bool, OwnTrailError> {
        let Some(pending) = &chain.pending else {
            return Ok(false);
        };
        let last = pending.end.tip().seq;
        let empty = Batch::parse(self.settings.chain.clone(), &[])?;
        let is_stored = self.store.append(empty).await?.durable >= last;
        if is_stored {
            self.keep_pending(chain);
        }
        chain.pending = None;
        Ok(is_stored)
    }

    /// Takes pending lines as durable, and writes them to standard output.
    fn keep_pending(&self, chain: &mut OwnChain) {
        if let Some(PendingLines { lines, end }) = chain.pending.take() {
            chain.durable = end;
            self.output.send(joined(&lines), lines.len() as u64);
        }
    }

    /// First record, which names the last line of the process before in the same pod.
    async fn start_record(&self) -> Result<Record, StoreError> {
        let id = &self.settings.chain;
        let mut predecessor = None;
        if id.pod_uid() != UNKNOWN_POD {
            let chains = self.store.chains().await?.into_iter();
            let before = chains
                .filter(|chain| chain.tip.chain != *id)
                .filter(|chain| chain.tip.chain.pod_uid() == id.pod_uid());
            predecessor = before.max_by_key(|chain| chain.time);
        }
        Ok(self.emitter().start(predecessor.map(|chain| chain.tip)))
    }
}

/// Lines with their newlines.
fn joined(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.json.len() + 1).sum());
    for line in lines {
        bytes.extend_from_slice(line.json.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}
