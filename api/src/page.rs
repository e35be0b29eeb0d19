//! Lists in pages: each page has the cursor of the next one, in its body and in a `Link` header.

use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::body::Json;
use crate::error::Error;

/// The query of a list that has no filters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Largest number of items in the page, 1 to 1000; 50 by default.
    pub(crate) limit: Option<i64>,
    /// `next` of the page before; absent for the first page.
    pub(crate) cursor: Option<String>,
}

const DEFAULT_LIMIT: i64 = 50;
pub(crate) const LARGEST_LIMIT: i64 = 1000;

/// One page of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Cursor of the next page; null on the last page.
    pub(crate) next: Option<String>,
}

/// The last item of a page, by which the next page is found. A cursor of one kind of list is refused by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    Job(Uuid),
    Trial(Uuid),
    Node(Uuid),
}

impl Cursor {
    pub(crate) fn encode(self) -> String {
        let (kind, id) = match self {
            Self::Job(id) => (b'j', id),
            Self::Trial(id) => (b't', id),
            Self::Node(id) => (b'n', id),
        };
        hex::encode([&[kind], id.as_bytes().as_slice()].concat())
    }

    /// The regular expression of the cursors of a kind.
    pub(crate) fn pattern(kind: fn(Uuid) -> Self) -> String {
        let digits = 2 * size_of::<Uuid>();
        format!("^{}[0-9a-f]{{{digits}}}$", &kind(Uuid::nil()).encode()[..2])
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = hex::decode(text).ok()?;
        let (kind, id) = bytes.split_first()?;
        let id = Uuid::from_slice(id).ok()?;
        match kind {
            b'j' => Some(Self::Job(id)),
            b't' => Some(Self::Trial(id)),
            b'n' => Some(Self::Node(id)),
            _ => None,
        }
    }
}

/// The id after which the page starts; `None` for the first page. `position` accepts the kind of cursor of this list.
pub(crate) fn start<T>(cursor: Option<&str>, position: impl Fn(Cursor) -> Option<T>) -> Result<Option<T>, Error> {
    cursor.map(|text| Cursor::decode(text).and_then(&position).ok_or(Error::InvalidCursor)).transpose()
}

/// Largest number of items in a page.
pub(crate) fn limit(requested: Option<i64>) -> Result<i64, Error> {
    match requested.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=LARGEST_LIMIT => Ok(limit),
        limit => Err(Error::InvalidParameter(format!("limit {limit}: 1 to {LARGEST_LIMIT} are allowed"))),
    }
}

impl<T: Serialize> Page<T> {
    /// A whole list as one page, for lists that are never long.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// A page of `limit` items. `items` should hold one more than `limit`, which tells that another page follows.
    pub(crate) fn new(mut items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }

    /// The answer to a request for `uri`, with the address of the next page in `Link`.
    pub(crate) fn answer(self, uri: &Uri) -> Response {
        let link = self.next.as_deref().and_then(|cursor| HeaderValue::try_from(next_link(uri, cursor)).ok());
        let mut response = Json(self).into_response();
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

/// The value of `Link`: the same address with another cursor.
fn next_link(uri: &Uri, cursor: &str) -> String {
    let kept =
        uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let query: Vec<&str> = kept.collect();
    let separator = if query.is_empty() { "" } else { "&" };
    format!("<{}?{}{separator}cursor={cursor}>; rel=\"next\"", uri.path(), query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_an_encoded_cursor_gives_the_cursor() {
        let id = Uuid::from_u128(7);
        for cursor in [Cursor::Job(id), Cursor::Trial(id), Cursor::Node(id)] {
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
    }

    #[test]
    fn a_cursor_of_another_list_or_form_is_refused() {
        let job = |cursor| match cursor {
            Cursor::Job(id) => Some(id),
            _ => None,
        };
        for text in ["", "zz", "00", "6a", "6a00", &Cursor::Trial(Uuid::from_u128(8)).encode()] {
            assert!(matches!(start(Some(text), job), Err(Error::InvalidCursor)), "{text:?}");
        }
        assert!(matches!(start(None, job), Ok(None)));
    }

    #[test]
    fn the_link_to_the_next_page_keeps_the_filters() {
        let link = |uri: &'static str| next_link(&Uri::from_static(uri), "6a");
        assert_eq!(link("/jobs"), "</jobs?cursor=6a>; rel=\"next\"");
        assert_eq!(link("/jobs?limit=2&cursor=77&arm=a%20b"), "</jobs?limit=2&arm=a%20b&cursor=6a>; rel=\"next\"");
    }

    #[test]
    fn a_cursor_has_the_pattern_of_its_kind() {
        assert_eq!(Cursor::pattern(Cursor::Job), "^6a[0-9a-f]{32}$");
        assert_eq!(Cursor::Job(Uuid::from_u128(1)).encode(), format!("6a{:032x}", 1));
    }

    #[test]
    fn a_page_has_a_next_cursor_only_if_another_page_follows() {
        let cursor = |id: &u128| Cursor::Job(Uuid::from_u128(*id));
        let page = |items: Vec<u128>| Page::new(items, 2, |id| cursor(id).encode());
        assert_eq!(page(vec![1, 2]).next, None);
        let first = page(vec![1, 2, 3]);
        assert_eq!((first.items, first.next), (vec![1, 2], Some(cursor(&2).encode())));
    }
}
