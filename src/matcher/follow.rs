//! Following the logs: what other replicas wrote comes into this gallery, early by what the store tells and surely by
//! asking it, and reads can wait for it.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{timeout, timeout_at};

use super::{ConsistencyToken, Context, Fault, Matcher, directory::Open, replay::Chain, turn::CATCH_UP_PAGE};
use domain::{CollectionId, CollectionUid, Position};
use store::{Head, News};

/// How long a read that waits leaves the log alone before it looks again by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a writer of this process may take to show what it has committed, before its news count as another's.
const OWN_WRITE: Duration = Duration::from_millis(10);

impl Matcher {
    /// How many entries are known to be in the logs of all collections and not in this gallery.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.directory.all().iter().map(Open::lag).sum()
    }

    /// The collection, once the gallery holds what the token stands for. Waits for that, a bounded time.
    ///
    /// # Errors
    /// [`Fault::NotCaughtUp`] when the gallery does not reach that far in time; [`Fault::StoreUnavailable`] when that is
    /// because the database cannot be asked; an invalid argument when the token is of another collection.
    pub(super) async fn open_at(
        &self,
        context: &Context,
        id: &CollectionId,
        token: Option<ConsistencyToken>,
    ) -> Result<Open, Fault> {
        let open = self.open(id).await?;
        let Some(token) = token else {
            return Ok(open);
        };
        if token.uid() != open.collection.uid {
            let problem = "the token is of another collection, or of an earlier life of this one";
            return Err(Fault::invalid("consistencyToken", problem));
        }
        if open.shelf.position() < token.position() {
            let until = context.deadline.min(Instant::now() + self.options.consistency_wait);
            self.wait(&open, token, until).await?;
        }
        // Anew: whoever appended what was waited for may have pinned a space.
        self.open(id).await
    }

    /// Waits for the follower to bring what the token stands for, and looks for it as well.
    async fn wait(&self, open: &Open, token: ConsistencyToken, until: Instant) -> Result<(), Fault> {
        let mut fault = Fault::NotCaughtUp;
        let looking = async {
            loop {
                fault = self.catch_up(open).await.err().unwrap_or(Fault::NotCaughtUp);
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let reached = async {
            tokio::select! {
                () = open.reached(token.position()) => {}
                () = looking => {}
            }
        };
        match timeout_at(until.into(), reached).await {
            Ok(()) => Ok(()),
            Err(_late) => Err(fault),
        }
    }

    /// Takes in what others appended, if anything. The record is read after the entries and before they are shown: who
    /// sees an entry also sees a record at least as new, with the space that it is of.
    pub(super) async fn catch_up(&self, open: &Open) -> Result<(), Fault> {
        let _alone = open.progress.reader.lock().await;
        loop {
            let entries = self.store.entries_after(open.collection.uid, open.shelf.position(), CATCH_UP_PAGE).await?;
            let is_last = entries.len() < CATCH_UP_PAGE as usize;
            if !entries.is_empty() {
                self.refresh(open).await?;
                open.apply(entries).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn refresh(&self, open: &Open) -> Result<(), Fault> {
        let id = &open.collection.id;
        match self.store.collection(id).await? {
            Some(collection) if collection.uid == open.collection.uid => {
                self.directory.refresh(&Arc::new(collection));
                Ok(())
            }
            Some(_) | None => {
                self.close(open);
                Err(Fault::NoCollection(id.clone()))
            }
        }
    }

    /// Follows each collection as soon as the store tells of it. Never ends by itself.
    pub(super) async fn listen(&self) {
        let mut watch = self.store.watch();
        loop {
            let news = watch.next().await;
            metrics::counter!(domain::metric::GALLERY_NOTIFICATIONS).increment(1);
            let heard = match news {
                News::Anything => self.follow().await,
                News::Appended { uid, position } => self.follow_to(uid, position).await,
                News::Changed(uid) => self.follow_uid(uid).await,
            };
            if let Err(fault) = heard {
                // The poll finds the same, and says so if it cannot.
                tracing::debug!(error = %Chain(&fault), "what was told is not followed yet");
            }
        }
    }

    async fn follow_to(&self, uid: CollectionUid, position: Position) -> Result<(), Fault> {
        if let Some(open) = self.directory.by_uid(uid) {
            // Most often it is there: every process hears of its own writes too, sometimes just before it shows them.
            if open.writers.try_lock().is_err() {
                let _ = timeout(OWN_WRITE, open.reached(position)).await;
            }
            if open.shelf.position() >= position {
                return Ok(());
            }
            open.head_seen(position);
        }
        self.follow_uid(uid).await
    }

    async fn follow_uid(&self, uid: CollectionUid) -> Result<(), Fault> {
        let Some(head) = self.store.head(uid).await? else {
            if let Some(open) = self.directory.by_uid(uid) {
                self.close(&open);
            }
            return Ok(());
        };
        match self.follow_one(&head).await {
            Err(Fault::NoCollection(_)) => Ok(()),
            followed => followed,
        }
    }

    /// Takes in what other replicas did since. A collection that fails leaves the others in peace.
    pub(super) async fn follow(&self) -> Result<(), Fault> {
        let heads = self.store.heads().await?;
        let mut failed = None;
        for head in &heads {
            match self.follow_one(head).await {
                Ok(()) | Err(Fault::NoCollection(_)) => {}
                Err(fault) => failed = Some(fault),
            }
        }
        let alive: HashSet<CollectionUid> = heads.iter().map(|h| h.uid).collect();
        for open in self.directory.all() {
            // One that was made after the heads were read is not among them: ask before letting go.
            if !alive.contains(&open.collection.uid)
                && self.store.collection(&open.collection.id).await?.is_none_or(|c| c.uid != open.collection.uid)
            {
                self.close(&open);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn follow_one(&self, head: &Head) -> Result<(), Fault> {
        let mut open = self.open(&head.id).await?;
        if open.collection.uid != head.uid {
            self.close(&open);
            open = self.open(&head.id).await?;
        }
        if open.collection.revision < head.revision
            && let Some(collection) = self.store.collection(&head.id).await?
        {
            self.directory.refresh(&Arc::new(collection));
            open = self.open(&head.id).await?;
            self.read_pins(&open).await?;
        }
        open.head_seen(head.position);
        if open.shelf.position() < head.position {
            self.catch_up(&open).await?;
        }
        Ok(())
    }
}
