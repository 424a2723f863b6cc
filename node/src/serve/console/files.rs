//! What a browser keeps: scripts, styles, and the plotting library.

use std::sync::OnceLock;

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

/// A file, and what it is.
type File = (&'static str, &'static str, &'static str);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! file {
    ($name:literal, $kind:expr, $path:literal) => {
        (
            $name,
            $kind,
            include_str!(concat!("../../../console/", $path)),
        )
    };
}

const FILES: [File; 10] = [
    file!("console.css", STYLE, "console.css"),
    file!("theme.js", SCRIPT, "theme.js"),
    file!("console.js", SCRIPT, "console.js"),
    file!("charts.js", SCRIPT, "charts.js"),
    file!("list.js", SCRIPT, "list.js"),
    file!("text.js", SCRIPT, "text.js"),
    file!("views.js", SCRIPT, "views.js"),
    file!("icon.svg", "image/svg+xml", "icon.svg"),
    file!("uplot.js", SCRIPT, "vendor/uplot/uPlot.iife.min.js"),
    file!("uplot.css", STYLE, "vendor/uplot/uPlot.min.css"),
];

/// Under this they lie, so that a browser never asks again for what has not changed.
pub(super) fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let bytes = FILES.iter().flat_map(|(_, _, text)| text.bytes());
        // FNV-1a: it tells one build from another, and is no secret.
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("{hash:016x}")
    })
}

/// Where the file with this name lies.
pub(super) fn place(name: &str) -> String {
    format!("/static/{}/{name}", version())
}

/// One of them.
pub(super) async fn file(
    Path((asked, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let found = FILES.iter().find(|(file, _, _)| *file == name);
    let Some((_, kind, text)) = found.filter(|_| asked == version()) else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    let tag = format!("\"{}\"", version());
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let kept = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::CONTENT_TYPE, kind),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    (kept, *text).into_response()
}
