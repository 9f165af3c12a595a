//! Short listings are shown larger than they must be: whoever sits at the back is glad of it.

use super::fit;
use super::markdown::visible;
use super::slide::Slide;

/// Width of a character, as a part of its height, in the widest of the usual fonts.
const WIDTH: f64 = 0.605;
/// What a line of code has, without its sign and margins.
const ROOM: f64 = 1150.0;

/// The height of the letters of a slide's listings, in pixels: as large as fits, and at least 20.
pub fn code(slide: &Slide) -> u32 {
    let mut figures = slide.body.split("<figure class=\"listing");
    let above = fit::text(visible(figures.next().unwrap_or_default()));
    let (mut around, mut rows, mut columns) = (above, 0.0, 0);
    for figure in figures {
        let mut parts = figure.split("<span class=\"row");
        around += fit::caption(parts.next().unwrap_or_default());
        for row in parts {
            let shown = row.split("<span class=\"no\">").last().unwrap_or(row);
            let code = shown.split("</pre>").next().unwrap_or(shown);
            columns = columns.max(visible(code));
            rows += 1.3;
        }
        // A command below the listing keeps its size.
        around += if figure.contains("<pre><code") { 90.0 } else { 0.0 };
    }
    let fits = |size: &u32| {
        let size = f64::from(*size);
        columns as f64 * WIDTH * size <= ROOM && around + rows * size <= fit::ROOM
    };
    [28, 26, 24, 22].into_iter().find(fits).unwrap_or(20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::{Row, figure};

    fn of(rows: usize, columns: usize) -> u32 {
        let row = |number| Row { sign: ' ', number, html: "x".repeat(columns) };
        let body = figure("code", "a.rs", "", &[(1..=rows).map(row).collect()]);
        code(&Slide { body, ..Slide::default() })
    }

    #[test]
    fn few_and_short_lines_are_large() {
        assert_eq!(of(4, 40), 28);
        assert_eq!(of(4, 99), 20, "too wide");
        assert_eq!(of(17, 40), 22, "too many");
    }
}
