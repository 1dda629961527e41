//! What a request asks for: encodings, query parameters and bodies, refused as the node refuses them.

use axum::http::{HeaderMap, header};

use super::response::Answer;
use crate::devnet::json::{self, Json};

/// How an answer can be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `application/json;charset=utf-8`
    Json,
    /// `application/json;blockheader-encoding=object`
    Object,
    /// `application/octet-stream`
    Binary,
    /// `text/plain;charset=utf-8`
    Text,
}

impl Encoding {
    /// The content type of an answer.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Object => "application/json;blockheader-encoding=object",
            Self::Binary => "application/octet-stream",
            Self::Text => "text/plain;charset=utf-8",
        }
    }

    /// Whether a media range without its quality covers this encoding.
    fn is_covered_by(self, range: &str) -> bool {
        let mut parts = self.content_type().split(';');
        let media = parts.next().unwrap_or_default();
        let own: Vec<_> = parts.collect();
        let mut wanted = range.split(';').map(str::trim);
        let wanted_media = wanted.next().unwrap_or_default();
        let family = media.split('/').next().unwrap_or_default();
        let is_media = wanted_media == "*/*"
            || wanted_media.strip_suffix("/*") == Some(family)
            || wanted_media.eq_ignore_ascii_case(media);
        is_media && wanted.all(|wanted| own.iter().any(|own| own.eq_ignore_ascii_case(wanted)))
    }
}

/// Picks the encoding that `Accept` wants most among `offers`; the first without `Accept`.
///
/// # Errors
/// 406 if none fits.
pub(super) fn negotiate(headers: &HeaderMap, offers: &[Encoding]) -> Result<Encoding, Answer> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accept = accept.collect::<Vec<_>>().join(",");
    let mut best: Option<(f32, Encoding)> = None;
    for range in accept.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (quality, range) = split_quality(range);
        let Some(&offer) = offers.iter().find(|offer| offer.is_covered_by(&range)) else { continue };
        if quality > 0.0 && best.is_none_or(|(better, _)| quality > better) {
            best = Some((quality, offer));
        }
    }
    match (best, offers.first()) {
        (Some((_, encoding)), _) => Ok(encoding),
        (None, Some(&first)) if accept.is_empty() => Ok(first),
        _ => Err(Answer::empty(406)),
    }
}

/// Separates `q=` from the other parameters of a media range.
fn split_quality(range: &str) -> (f32, String) {
    let mut quality = 1.0;
    let others = range.split(';').map(str::trim).filter(|part| match part.strip_prefix("q=") {
        Some(value) => {
            quality = value.parse().unwrap_or(0.0);
            false
        }
        None => true,
    });
    let others = others.collect::<Vec<_>>().join(";");
    (quality, others)
}

/// Whether the body is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

/// Parses a JSON body.
///
/// # Errors
/// 415 unless it is said to be JSON, 400 with the reason if it does not parse.
pub(super) fn json_body(headers: &HeaderMap, body: &[u8]) -> Result<Json, Answer> {
    if !is_json(headers) {
        return Err(Answer::empty(415));
    }
    let text = std::str::from_utf8(body).map_err(|_| Answer::unparsed("Invalid UTF-8 stream"))?;
    json::parse(text).map_err(Answer::unparsed)
}

/// The parameters of a query string.
pub(super) struct Query<'a>(pub(super) &'a str);

impl Query<'_> {
    /// The parameter's text; the first if it is there several times.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| percent_decoded(value))
        })
    }

    /// A parameter that is `true` or `false`.
    ///
    /// # Errors
    /// 400 with the node's text.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Answer> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Answer::unparsed(format!(
                "Error parsing query parameter {name} failed: could not parse: `{text}'"
            ))
        })
    }

    /// A parameter that is a number ≥ 0.
    ///
    /// # Errors
    /// 400 with the node's text.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Answer> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number {
            return Ok(Some(text.parse().unwrap_or(u64::MAX)));
        }
        let negative = text.strip_prefix('-').filter(|rest| !rest.is_empty() && rest.parse::<u64>().is_ok());
        // The node reads these two with a signed parser and checks the sign afterwards.
        let why = match negative {
            Some(_) if name == "limit" => format!("underflow: {text} (should be a non-negative integer)"),
            _ => format!("could not parse: `{text}' (input does not start with a digit)"),
        };
        Err(Answer::unparsed(format!("Error parsing query parameter {name} failed: {why}")))
    }
}

/// Undoes percent encoding; what is not valid stays as it is.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[Encoding] = &[Encoding::Json, Encoding::Object, Encoding::Binary];

    fn negotiated(accept: &str) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        negotiate(&headers, HEADER).ok()
    }

    #[test]
    fn encodings_are_negotiated_as_recorded() {
        assert_eq!(negotiate(&HeaderMap::new(), HEADER).ok(), Some(Encoding::Json));
        assert_eq!(negotiated("*/*"), Some(Encoding::Json));
        assert_eq!(negotiated("application/json"), Some(Encoding::Json));
        assert_eq!(negotiated("application/json; blockheader-encoding=object"), Some(Encoding::Object));
        assert_eq!(
            negotiated("application/json;blockheader-encoding=object, application/json;q=0.5"),
            Some(Encoding::Object)
        );
        assert_eq!(negotiated("application/octet-stream"), Some(Encoding::Binary));
        assert_eq!(negotiated("application/json;blockheader-encoding=foo"), None);
        assert_eq!(negotiated("text/plain"), None);
    }

    #[test]
    fn query_errors_read_like_the_nodes() {
        let query = Query("limit=-1&maxheight=x&next=inclusive%3Aabc&minheight=7");
        assert_eq!(query.number("minheight").ok().flatten(), Some(7));
        assert_eq!(query.get("next").as_deref(), Some("inclusive:abc"));
        let text =
            |name| query.number(name).err().map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
        assert_eq!(
            text("limit").unwrap(),
            "Error parsing query parameter limit failed: underflow: -1 (should be a non-negative integer)"
        );
        assert_eq!(
            text("maxheight").unwrap(),
            "Error parsing query parameter maxheight failed: could not parse: `x' (input does not start with a digit)"
        );
    }
}
