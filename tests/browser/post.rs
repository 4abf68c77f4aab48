//! The page of a post of `live_posts`.

#![allow(dead_code, reason = "each test file uses its part")]

use crate::browser::Page;

pub(crate) const POST: &str = "/#42";

pub(crate) async fn sign_in(page: &Page, user: &str) {
    page.fill("#user", user).await;
    page.click("#enter").await;
    page.says("#state", "Live").await;
}

pub(crate) async fn comment(page: &Page, text: &str) {
    page.fill("#text", text).await;
    page.click("#send").await;
}
