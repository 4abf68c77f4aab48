//! The posts, in memory: a database in a real service.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// The comments that a post keeps; older ones are forgotten.
const KEPT: usize = 500;

#[derive(Debug)]
pub(crate) struct Posts(Mutex<BTreeMap<u64, Post>>);

#[derive(Debug)]
struct Post {
    title: &'static str,
    body: &'static str,
    likes: u64,
    comments: VecDeque<Comment>,
    last_comment: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comment {
    id: u64,
    post_id: u64,
    author: String,
    text: String,
    created_at: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    id: u64,
    title: &'static str,
    body: &'static str,
    likes: u64,
    comments: usize,
}

impl Posts {
    pub(crate) fn demonstration() -> Self {
        let post = |title, body| Post { title, body, likes: 0, comments: VecDeque::new(), last_comment: 0 };
        Self(Mutex::new(BTreeMap::from([
            (
                1,
                post(
                    "A room is a place",
                    "Open this page in a second tab. Each post is a room; whoever has it open is in it, and sees the \
                     others come and go.",
                ),
            ),
            (
                2,
                post(
                    "One write for each member",
                    "A comment is encoded once. Every member gets the same bytes, and a slow one holds up nobody.",
                ),
            ),
            (
                42,
                post(
                    "What happens when the server goes away",
                    "Stop the server and watch the state above: the page tries again, each time a little later, and is \
                     back by itself.",
                ),
            ),
        ])))
    }

    pub(crate) fn exists(&self, post: u64) -> bool {
        self.lock().contains_key(&post)
    }

    pub(crate) fn summaries(&self) -> Vec<Summary> {
        let summary = |(id, post): (&u64, &Post)| Summary {
            id: *id,
            title: post.title,
            body: post.body,
            likes: post.likes,
            comments: post.comments.len(),
        };
        self.lock().iter().map(summary).collect()
    }

    pub(crate) fn comments(&self, post: u64) -> Option<Vec<Comment>> {
        self.lock().get(&post).map(|post| post.comments.iter().cloned().collect())
    }

    pub(crate) fn comment(&self, post_id: u64, author: &str, text: String) -> Option<Comment> {
        let mut posts = self.lock();
        let post = posts.get_mut(&post_id)?;
        let now = SystemTime::now();
        // By the clock, so that several processes do not give the same number twice; a database would see to that.
        let micros = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
        post.last_comment = u64::try_from(micros).unwrap_or_default().max(post.last_comment + 1);
        let comment = Comment {
            id: post.last_comment,
            post_id,
            author: author.to_owned(),
            text,
            created_at: humantime::format_rfc3339_millis(now).to_string(),
        };
        if post.comments.len() == KEPT {
            post.comments.pop_front();
        }
        post.comments.push_back(comment.clone());
        Some(comment)
    }

    pub(crate) fn like(&self, post: u64) -> Option<u64> {
        let mut posts = self.lock();
        let post = posts.get_mut(&post)?;
        post.likes += 1;
        Some(post.likes)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Post>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
