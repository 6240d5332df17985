//! Following the logs: entries of other replicas enter this gallery, soon through the notices of the store and surely
//! through polls; a read can wait for them.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{timeout, timeout_at};

use super::{LOG_PAGE, Replica};
use crate::matcher::{
    collection::collection_handle::CollectionHandle, request::consistency_token::ConsistencyToken,
    request::context::Context, request::fault::Fault,
};
use domain::{CollectionId, CollectionUid, ErrorChain, Position};
use store::{CollectionHead, LogNotice};

/// Interval between two reads of the log by a waiting read.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A writer of this process shows its commit within this time; later, its notice counts as that of another replica.
const OWN_WRITE: Duration = Duration::from_millis(10);

impl Replica {
    /// The collection, once the gallery holds the write of the token. The wait is bounded.
    ///
    /// # Errors
    /// [`Fault::NotCaughtUp`] when the gallery does not reach the token in time; [`Fault::StoreUnavailable`] when the
    /// cause is the database; an invalid argument when the token is of another collection.
    pub(crate) async fn open_at(
        &self,
        context: &Context,
        id: &CollectionId,
        token: Option<ConsistencyToken>,
    ) -> Result<CollectionHandle, Fault> {
        let handle = self.open(id).await?;
        let Some(token) = token else {
            return Ok(handle);
        };
        if token.uid() != handle.collection.uid {
            let problem = "the token is of another collection, or of a deleted one with the same id";
            return Err(Fault::invalid("consistencyToken", problem));
        }
        if handle.position() < token.position() {
            let until = context.deadline.min(Instant::now() + self.options.consistency_wait);
            self.wait(&handle, token, until).await?;
        }
        // Open it again: the write of the token may have pinned a space.
        self.open(id).await
    }

    /// Waits for the follower to reach the token, and reads the log meanwhile.
    async fn wait(&self, handle: &CollectionHandle, token: ConsistencyToken, until: Instant) -> Result<(), Fault> {
        let mut fault = Fault::NotCaughtUp;
        let polling = async {
            loop {
                fault = self.catch_up(handle).await.err().unwrap_or(Fault::NotCaughtUp);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let reached = async {
            tokio::select! {
                () = handle.progress.reached(token.position()) => {}
                () = polling => {}
            }
        };
        match timeout_at(until.into(), reached).await {
            Ok(()) => Ok(()),
            Err(_late) => Err(fault),
        }
    }

    /// Applies the entries that others appended. The record is read after the entries and before they are shown: a
    /// search that sees an entry also sees a record at least as new, with the space of the entry.
    async fn catch_up(&self, handle: &CollectionHandle) -> Result<(), Fault> {
        let _reader = handle.progress.reader.lock().await;
        loop {
            let entries =
                self.store.in_collection(handle.collection.uid).entries_after(handle.position(), LOG_PAGE).await?;
            let is_last = entries.len() < LOG_PAGE as usize;
            if !entries.is_empty() {
                self.refresh(handle).await?;
                handle.apply(entries).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn refresh(&self, handle: &CollectionHandle) -> Result<(), Fault> {
        let id = &handle.collection.id;
        match self.store.collection(id).await? {
            Some(collection) if collection.uid == handle.collection.uid => {
                self.directory.refresh(&Arc::new(collection));
                Ok(())
            }
            Some(_) | None => {
                self.close(handle);
                Err(Fault::NoCollection(id.clone()))
            }
        }
    }

    /// Follows each collection as soon as the store sends a notice. Never returns.
    pub(crate) async fn listen(&self) {
        let mut watch = self.store.watch();
        loop {
            let notice = watch.next().await;
            metrics::counter!(domain::metric::GALLERY_NOTIFICATIONS).increment(1);
            let followed = match notice {
                LogNotice::Anything => self.follow().await,
                LogNotice::Appended { uid, position } => self.follow_to(uid, position).await,
                LogNotice::Changed(uid) => self.follow_uid(uid).await,
            };
            if let Err(fault) = followed {
                // The next poll reads the same entries, and warns if it fails.
                tracing::debug!(error = %ErrorChain(&fault), "a notice of the store is not followed yet");
            }
        }
    }

    async fn follow_to(&self, uid: CollectionUid, position: Position) -> Result<(), Fault> {
        if let Some(handle) = self.directory.by_uid(uid) {
            // Usually the entry is in the gallery: a process also receives notices of its own writes, sometimes just
            // before it shows them.
            if handle.writers.try_lock().is_err() {
                let _ = timeout(OWN_WRITE, handle.progress.reached(position)).await;
            }
            if handle.position() >= position {
                return Ok(());
            }
            handle.progress.head_seen(position);
        }
        self.follow_uid(uid).await
    }

    async fn follow_uid(&self, uid: CollectionUid) -> Result<(), Fault> {
        let Some(head) = self.store.head(uid).await? else {
            if let Some(handle) = self.directory.by_uid(uid) {
                self.close(&handle);
            }
            return Ok(());
        };
        match self.follow_one(&head).await {
            Err(Fault::NoCollection(_)) => Ok(()),
            followed => followed,
        }
    }

    /// Applies what other replicas wrote to all collections. The failure of one collection does not stop the others.
    pub(crate) async fn follow(&self) -> Result<(), Fault> {
        let heads = self.store.heads().await?;
        let mut failed = None;
        for head in &heads {
            match self.follow_one(head).await {
                Ok(()) | Err(Fault::NoCollection(_)) => {}
                Err(fault) => failed = Some(fault),
            }
        }
        let present: HashSet<CollectionUid> = heads.iter().map(|h| h.uid).collect();
        for handle in self.directory.all() {
            // A collection that was created after the heads were read is not among them: ask the store before closing.
            let collection = &handle.collection;
            if !present.contains(&collection.uid)
                && self.store.collection(&collection.id).await?.is_none_or(|stored| stored.uid != collection.uid)
            {
                self.close(&handle);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn follow_one(&self, head: &CollectionHead) -> Result<(), Fault> {
        let mut handle = self.open(&head.id).await?;
        if handle.collection.uid != head.uid {
            self.close(&handle);
            handle = self.open(&head.id).await?;
        }
        if handle.collection.revision < head.revision
            && let Some(collection) = self.store.collection(&head.id).await?
        {
            self.directory.refresh(&Arc::new(collection));
            handle = self.open(&head.id).await?;
            self.read_active_calibrations(&handle).await?;
        }
        handle.progress.head_seen(head.position);
        if handle.position() < head.position {
            self.catch_up(&handle).await?;
        }
        Ok(())
    }
}
