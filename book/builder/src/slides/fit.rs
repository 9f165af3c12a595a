//! How much room things take on a slide of 1280 × 720, by an estimate that errs on the safe side.
//! A test measures every slide in a browser.

use super::markdown::visible;

/// Height of a line of code: 20 pixels and the space between.
pub const ROW: f64 = 26.0;
/// Height of a listing without its rows.
pub const CAPTION: f64 = 57.0;
/// Characters in a line of a caption.
const CAPTION_COLUMNS: usize = 104;
/// Characters in a line of code, which wraps at words.
pub const CODE_COLUMNS: usize = 94;
/// The same for what a program printed, which has no signs before it.
pub const RUN_COLUMNS: usize = 100;
/// What a slide has below its heading.
pub const ROOM: f64 = 572.0;
/// Height of a line of text of 24 pixels.
pub const LINE: f64 = 34.0;
/// Space between two pieces of text.
pub const GAP: f64 = 14.0;
/// Characters in a line of text.
const TEXT_COLUMNS: usize = 84;

/// Height of a paragraph of so many characters.
pub fn text(characters: usize) -> f64 {
    match characters {
        0 => 0.0,
        n => n.div_ceil(TEXT_COLUMNS) as f64 * LINE + GAP,
    }
}

/// Height of a listing without its rows: a long command is a caption of several lines.
pub fn caption(html: &str) -> f64 {
    CAPTION + (visible(html) / CAPTION_COLUMNS) as f64 * ROW
}
