//! Cuts a listing into pieces that a slide has room for.

use super::fit;
use super::markdown::visible;

/// A listing taken apart: the HTML around its rows, and the rows.
pub struct Listing {
    open: String,
    rows: Vec<String>,
    close: String,
    /// Characters that a line has room for.
    columns: usize,
}

impl Listing {
    /// Reads a figure of [`crate::listing::figure`], or of a recorded run.
    pub fn read(html: &str) -> Self {
        let mut pieces = html.split("<span class=\"row").map(str::to_owned);
        let open = pieces.next().unwrap_or_default();
        let mut rows: Vec<String> = pieces.map(|row| format!("<span class=\"row{row}")).collect();
        let mut close = String::new();
        if let Some(last) = rows.last_mut()
            && let Some(at) = last.find("\n</span>")
        {
            close = last.split_off(at + "\n</span>".len());
        }
        let is_run = open.contains("listing run");
        let columns = if is_run { fit::RUN_COLUMNS } else { fit::CODE_COLUMNS };
        let mut listing = Self { open, rows, close, columns };
        listing.dedent();
        listing
    }

    /// Lines of a hunk start as far left as they can.
    fn dedent(&mut self) {
        const SIGN: &str = "<span class=\"sign\">";
        let code = |row: &str| row.find(SIGN).map(|at| at + SIGN.len() + 1 + "</span>".len());
        let indent = |row: &String| {
            let rest = &row[code(row)?..];
            let blank = rest.starts_with('\n');
            (!blank).then(|| rest.len() - rest.trim_start_matches(' ').len())
        };
        let least = self.rows.iter().filter_map(indent).min().unwrap_or(0);
        for row in &mut self.rows {
            if let Some(at) = code(row)
                && row[at..].starts_with(&" ".repeat(least))
            {
                row.replace_range(at..at + least, "");
            }
        }
    }

    /// Its height on a slide.
    pub fn height(&self) -> f64 {
        fit::caption(&self.open) + self.rows.iter().map(|row| self.row_height(row)).sum::<f64>()
    }

    fn row_height(&self, row: &str) -> f64 {
        // The line number is not shown on a slide.
        let shown = row.split("<span class=\"no\">").last().unwrap_or(row);
        let lines = visible(shown).saturating_sub(4).div_ceil(self.columns).max(1);
        lines as f64 * fit::ROW
    }

    /// The listing as a whole.
    pub fn html(&self) -> String {
        self.part(0, self.rows.len(), "")
    }

    fn part(&self, from: usize, to: usize, note: &str) -> String {
        let open = match note {
            "" => self.open.clone(),
            note => {
                let end = format!(" <span class=\"part\">{note}</span></figcaption>");
                self.open.replacen("</figcaption>", &end, 1)
            }
        };
        format!("{open}{}{}", self.rows[from..to].concat(), self.close.trim_end())
    }

    /// The listing in as few parts as fit into `room`, about equally long and cut, where that can
    /// be, at a gap or a blank line.
    pub fn parts(&self, room: f64) -> Vec<String> {
        let room = room - fit::caption(&self.open);
        let heights: Vec<f64> = self.rows.iter().map(|row| self.row_height(row)).collect();
        let total: f64 = heights.iter().sum();
        let least = (total / room).ceil().max(1.0) as usize;
        let most = self.rows.len().max(1);
        let cuts = (least..=most).find_map(|count| self.cuts(&heights, room, count));
        let cuts = cuts.unwrap_or_else(|| (0..=self.rows.len()).collect());
        let last = cuts.len() - 1;
        let note = |i: usize| match last {
            1 => String::new(),
            _ => format!("{} of {last}", i + 1),
        };
        (0..last).map(|i| self.part(cuts[i], cuts[i + 1], &note(i))).collect()
    }

    /// Where to cut into `count` parts, if they can be that few: each cut is near the place where
    /// all parts would be equally long, and better a little off than inside a paragraph of code.
    fn cuts(&self, heights: &[f64], room: f64, count: usize) -> Option<Vec<usize>> {
        let sum = |from: usize, to: usize| heights[from..to].iter().sum::<f64>();
        let (mut cuts, end) = (vec![0], heights.len());
        for left in (1..count).rev() {
            let start = cuts[cuts.len() - 1];
            let aim = sum(start, end) / (left + 1) as f64;
            let fits =
                |&cut: &usize| sum(start, cut) <= room && sum(cut, end) <= left as f64 * room;
            let price = |cut: &usize| {
                let inside = if self.is_break(*cut) { 0.0 } else { 5.0 * fit::ROW };
                (sum(start, *cut) - aim).abs() + inside
            };
            let by_price = |a: &usize, b: &usize| price(a).total_cmp(&price(b));
            cuts.push((start + 1..end).filter(fits).min_by(by_price)?);
        }
        cuts.push(end);
        (sum(cuts[cuts.len() - 2], end) <= room).then_some(cuts)
    }

    /// Whether a part may well begin with row `k`.
    fn is_break(&self, k: usize) -> bool {
        let blank = |row: &str| {
            row.contains("row gap") || row.ends_with("</span>\n</span>") && visible(row) < 6
        };
        blank(&self.rows[k - 1]) || self.rows[k].contains("row gap")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::{Row, figure};

    fn listing(rows: usize) -> Listing {
        let row = |i| Row { sign: '+', number: i, html: format!("        line{i}();") };
        Listing::read(&figure("diff", "a.rs", "", &[(1..=rows).map(row).collect()]))
    }

    #[test]
    fn every_row_is_in_one_part() {
        for rows in 1..60 {
            let parts = listing(rows).parts(fit::CAPTION + 17.0 * fit::ROW);
            let all = parts.concat();
            assert_eq!(all.matches("class=\"row").count(), rows);
            (1..=rows).for_each(|i| assert!(all.contains(&format!("</span>line{i}();"))));
            for part in &parts {
                assert!(part.matches("class=\"row").count() <= 17, "{rows} rows");
                assert!(part.starts_with("<figure") && part.ends_with("</pre></figure>"));
            }
        }
    }

    #[test]
    fn a_listing_that_fits_stays_whole() {
        assert_eq!(listing(17).parts(fit::CAPTION + 17.0 * fit::ROW).len(), 1);
        assert_eq!(listing(18).parts(fit::CAPTION + 17.0 * fit::ROW).len(), 2);
        assert!(listing(2).html().contains("</span>line2();"), "the indentation is gone");
    }
}
