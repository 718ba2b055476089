//! Cache of verdicts, over any engine: 10 seconds for a yes and for a no.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest;

use super::limiter::CallLimiter;
use super::question::{AccessQuestion, ApiPermission};
use super::reviewer::{AccessReviewer, AccessUnavailable, AccessVerdict};
use super::shared_cache::SharedCache;
use super::subject::AccessSubject;

/// SHA-256 of a subject and a question. An entry is as small for a caller with 256 groups as for one without.
type QuestionDigest = [u8; 32];

/// Engine that asks another one once in 10 seconds for each subject and question.
#[derive(Debug)]
pub struct CachedReviewer {
    engine: Arc<dyn AccessReviewer>,
    cache: Arc<SharedCache<QuestionDigest, AccessVerdict>>,
}

impl CachedReviewer {
    #[must_use]
    pub fn new(engine: Arc<dyn AccessReviewer>) -> Self {
        Self {
            engine,
            cache: SharedCache::new(&CallLimiter::new()),
        }
    }
}

#[async_trait]
impl AccessReviewer for CachedReviewer {
    async fn review(
        &self,
        subject: &AccessSubject,
        question: &AccessQuestion,
    ) -> Result<AccessVerdict, AccessUnavailable> {
        let key = digest_of(subject, question);
        let engine = Arc::clone(&self.engine);
        let (asked_subject, asked) = (subject.clone(), question.clone());
        let work = move || async move { engine.review(&asked_subject, &asked).await };
        self.cache.get(key, subject.tenant(), work).await
    }
}

/// Digest over everything that an engine gets. Each text has its length before it, so that no two lists of texts have
/// the same bytes.
fn digest_of(subject: &AccessSubject, question: &AccessQuestion) -> QuestionDigest {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |text: Option<&str>| {
        // The length of a text that is not there is one that no text has.
        let length = text.map_or(u64::MAX, |text| {
            u64::try_from(text.len()).unwrap_or(u64::MAX - 1)
        });
        context.update(&length.to_be_bytes());
        context.update(text.unwrap_or_default().as_bytes());
    };
    let ApiPermission { verb, resource } = question.permission();
    add(Some(subject.user()));
    add(Some(subject.uid()));
    add(Some(verb.as_str()));
    add(Some(resource.as_str()));
    add(question.namespace());
    add(question.name());
    subject.groups().iter().for_each(|group| add(Some(group)));
    let mut sum = [0; 32];
    sum.copy_from_slice(context.finish().as_ref());
    sum
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::authz::static_reviewer::{AccessGrant, StaticReviewer};
    use crate::authz::{AccessResource, AccessVerb, AdminRole};

    fn subject(user: &str, groups: &[&str]) -> AccessSubject {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        AccessSubject::new("r", "r".to_owned(), user.to_owned(), String::new(), groups)
    }

    fn question(namespace: Option<&str>, name: Option<&str>) -> AccessQuestion {
        let permission = ApiPermission {
            verb: AccessVerb::Get,
            resource: AccessResource::Secrets,
        };
        AccessQuestion::new(permission, namespace, name).unwrap()
    }

    #[test]
    fn key_has_every_attribute() {
        let subjects = [
            subject("a", &[]),
            subject("b", &[]),
            subject("a", &["b"]),
            subject("a", &["b", "c"]),
            subject("a", &["bc"]),
            AccessSubject::new("r", "r".to_owned(), "a".to_owned(), "1".to_owned(), vec![]),
        ];
        let questions = [
            question(None, None),
            question(Some("a"), None),
            question(Some("ab"), None),
            question(Some("a"), Some("b")),
            question(None, Some("a")),
        ];
        let all = subjects.iter().flat_map(|subject| {
            questions
                .iter()
                .map(|question| digest_of(subject, question))
        });
        let distinct: HashSet<_> = all.collect();
        assert_eq!(distinct.len(), subjects.len() * questions.len());
        // The order of groups is none.
        assert_eq!(
            digest_of(&subject("a", &["c", "b", "b"]), &questions[0]),
            digest_of(&subject("a", &["b", "c"]), &questions[0])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn yes_and_no_are_kept_for_ten_seconds() {
        let engine = Arc::new(StaticReviewer::default());
        let cached = CachedReviewer::new(Arc::clone(&engine) as Arc<dyn AccessReviewer>);
        let (alice, read) = (subject("alice", &[]), question(Some("a"), Some("db")));
        let verdict = async || cached.review(&alice, &read).await.unwrap();
        assert_eq!(verdict().await, AccessVerdict::Denied);
        engine.set(vec![AccessGrant::user(
            "alice",
            AdminRole::Viewer,
            Some("a"),
        )]);
        advance(Duration::from_millis(9_999)).await;
        assert_eq!(
            (verdict().await, engine.calls()),
            (AccessVerdict::Denied, 1)
        );
        advance(Duration::from_millis(1)).await;
        assert_eq!(
            (verdict().await, engine.calls()),
            (AccessVerdict::Allowed, 2)
        );
        engine.set(Vec::new());
        advance(Duration::from_secs(10)).await;
        assert_eq!(verdict().await, AccessVerdict::Denied);
    }

    #[tokio::test(start_paused = true)]
    async fn row_68_engine_that_fails_or_hangs_gives_no_verdict() {
        let engine = Arc::new(StaticReviewer::default());
        let cached = CachedReviewer::new(Arc::clone(&engine) as Arc<dyn AccessReviewer>);
        let (alice, read) = (subject("alice", &[]), question(Some("a"), Some("db")));
        engine.fail(true);
        for _ in 0..3 {
            assert!(cached.review(&alice, &read).await.is_err());
        }
        assert_eq!(engine.calls(), 3, "errors are not kept");
        engine.fail(false);
        assert_eq!(
            cached.review(&alice, &read).await,
            Ok(AccessVerdict::Denied)
        );
    }

    /// Engine that hangs for the subjects of one realm.
    #[derive(Debug)]
    struct HangsFor(&'static str);

    #[async_trait]
    impl AccessReviewer for HangsFor {
        async fn review(
            &self,
            subject: &AccessSubject,
            _: &AccessQuestion,
        ) -> Result<AccessVerdict, AccessUnavailable> {
            if subject.realm() == self.0 {
                std::future::pending::<()>().await;
            }
            Ok(AccessVerdict::Allowed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn row_68_realm_that_waits_does_not_delay_another() {
        let cached = Arc::new(CachedReviewer::new(Arc::new(HangsFor("r"))));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..300 {
            let (cached, user) = (Arc::clone(&cached), subject(&number.to_string(), &[]));
            waiting.spawn(async move { cached.review(&user, &question(None, None)).await });
        }
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        let bob = AccessSubject::new("s", "s".to_owned(), "bob".to_owned(), String::new(), vec![]);
        let verdict = cached.review(&bob, &question(None, None)).await;
        assert_eq!(
            (verdict, began.elapsed()),
            (Ok(AccessVerdict::Allowed), Duration::ZERO)
        );
        let mut reasons = Vec::new();
        while let Some(Ok(answer)) = waiting.join_next().await {
            reasons.push(answer.unwrap_err().reason);
        }
        let waited = |part: &str| {
            reasons
                .iter()
                .filter(|reason| reason.contains(part))
                .count()
        };
        assert_eq!((waited("within 2 s"), waited("wait already")), (256, 44));
    }
}
