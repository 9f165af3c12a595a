//! A chapter's slides under way, section by section.

use anyhow::Result;

use super::blocks::{Block, Kind};
use super::listing::Listing;
use super::markdown::{inline, items, to_html, visible};
use super::sentence::{last, sentences};
use super::slide::{Slide, flow, pieces};
use super::{boxes, fit};

/// Pictures taller than this have room for a caption beside them only.
const TALL: f64 = 480.0;
/// Pictures taller than this are shown by halves too.
const VERY_TALL: f64 = 560.0;

/// A chapter's slides under way.
#[derive(Default)]
pub struct Deck {
    /// Those made so far.
    pub slides: Vec<Slide>,
    /// The heading of the section, and how many slides there were before it.
    heading: String,
    before: usize,
    /// The paragraphs of the section, and of those, how many stand before the last slide.
    prose: Vec<String>,
    told: usize,
    /// Room left on the last slide, if it is a listing that another may stand below.
    room: f64,
}

impl Deck {
    pub fn title(&mut self, text: &str) -> Result<()> {
        self.push("title", inline(text)?, String::new())
    }

    pub fn section(&mut self, text: &str) -> Result<()> {
        self.end_section()?;
        self.heading = inline(text)?;
        self.before = self.slides.len();
        (self.prose, self.told, self.room) = (Vec::new(), 0, 0.0);
        Ok(())
    }

    /// A section that shows nothing still gets a slide: what its paragraphs begin with. Of any
    /// other, the last paragraphs go to the notes of its last slide.
    pub fn end_section(&mut self) -> Result<()> {
        let rest = self.prose[self.told..].join("\n\n");
        if self.heading.is_empty() {
            // What stands before the first section belongs on the title.
            let facts = self.prose.first().map(|text| to_html(text)).transpose()?;
            if let Some(title) = self.slides.first_mut() {
                title.body = facts.unwrap_or_default();
                title.notes = to_html(&self.prose.get(1..).unwrap_or_default().join("\n\n"))?;
            }
        } else if self.slides.len() == self.before && !self.prose.is_empty() {
            let firsts = self.prose.iter().flat_map(|text| firsts(text));
            let list: String = firsts.map(|text| format!("- {text}\n")).collect();
            self.words(&list)?;
        } else if let (false, Some(slide)) = (rest.is_empty(), self.slides.last_mut()) {
            slide.notes.push_str(&to_html(&rest)?);
        }
        self.told = self.prose.len();
        Ok(())
    }

    pub fn prose(&mut self, kind: Kind, text: &str, shown: bool) -> Result<()> {
        let has_formula = kind == Kind::Paragraph && text.contains("$$");
        let leads = if kind == Kind::List { leads(text) } else { None };
        let is_text = matches!(kind, Kind::Paragraph | Kind::List);
        if self.slides.is_empty() || self.heading.is_empty() && is_text && !shown {
            self.prose.push(text.to_owned());
        } else if shown {
            let html: String = pieces(kind, text)?.into_iter().map(|piece| piece.html).collect();
            self.push("words", self.heading.clone(), html)?;
        } else if has_formula {
            self.formula(text)?;
        } else if kind == Kind::Table {
            for part in pieces(kind, text)? {
                let body = self.with_sentence(&part.html)?;
                self.push("table", self.heading.clone(), body)?;
            }
        } else if kind == Kind::Code {
            self.code(text)?;
        } else if let Some(list) = leads {
            self.prose.push(text.to_owned());
            self.words(&list)?;
        } else {
            self.prose.push(text.to_owned());
            self.room = 0.0;
        }
        Ok(())
    }

    /// The formulas of a paragraph, with the sentence before the first.
    fn formula(&mut self, text: &str) -> Result<()> {
        let parts: Vec<&str> = text.split("$$").collect();
        let formulas: Vec<String> =
            parts.iter().skip(1).step_by(2).map(|latex| format!("$${latex}$$")).collect();
        if !parts[0].trim().is_empty() {
            self.prose.push(parts[0].trim().to_owned());
        }
        let body = self.with_sentence(&to_html(&formulas.join("\n\n"))?)?;
        self.push("formula", self.heading.clone(), body)?;
        let after = parts[parts.len() - 1].trim();
        if !after.is_empty() {
            self.prose.push(after.to_owned());
        }
        Ok(())
    }

    /// A fenced command stands below the listing before it, if there is one and it has room.
    fn code(&mut self, text: &str) -> Result<()> {
        let height: f64 = pieces(Kind::Code, text)?.iter().map(|piece| piece.height).sum();
        let html = to_html(text)?;
        let has_room = height < self.room;
        match self.slides.last_mut() {
            Some(slide) if has_room => {
                slide.body.push_str(&html);
                self.room -= height;
                Ok(())
            }
            _ => {
                let body = self.with_sentence(&html)?;
                self.push("code", self.heading.clone(), body)
            }
        }
    }

    /// A picture, with its caption beside it if it is tall. One so tall that its letters get small
    /// is followed by its two halves.
    pub fn picture(&mut self, html: &str) -> Result<()> {
        let height = height(html).unwrap_or(0.0);
        let class = if height > TALL { "picture tall" } else { "picture" };
        self.push(class, self.heading.clone(), html.to_owned())?;
        if height > VERY_TALL {
            let part = height * 0.54;
            for top in [0.0, height - part] {
                let whole = format!("viewBox=\"0 0 520 {height}\"");
                let half = format!("viewBox=\"0 {top:.0} 520 {part:.0}\"");
                self.push(class, self.heading.clone(), html.replacen(&whole, &half, 1))?;
            }
        }
        Ok(())
    }

    /// A listing, below the one before it if no text stands between and both fit.
    pub fn listing(&mut self, html: &str) -> Result<()> {
        let listing = Listing::read(html);
        if let (true, Some(slide)) = (listing.height() < self.room, self.slides.last_mut()) {
            slide.body.push_str(&listing.html());
            self.room -= listing.height();
            return Ok(());
        }
        let above = self.sentence()?;
        let room = fit::ROOM - fit::text(visible(&above));
        for part in listing.parts(room) {
            let used = Listing::read(&part).height();
            self.push("listing", self.heading.clone(), format!("{above}{part}"))?;
            self.room = room - used;
        }
        Ok(())
    }

    pub fn boxed(&mut self, class: &str, blocks: &[Block]) -> Result<()> {
        for slide in boxes::slides(class, blocks)? {
            self.push(&slide.class, slide.title, slide.body)?;
        }
        Ok(())
    }

    /// The sentence that stands above what is shown next, as a paragraph.
    fn sentence(&self) -> Result<String> {
        match self.prose.last() {
            Some(text) if !last(text).is_empty() => {
                Ok(format!("<p class=\"sentence\">{}</p>", inline(&last(text))?))
            }
            _ => Ok(String::new()),
        }
    }

    fn with_sentence(&self, html: &str) -> Result<String> {
        Ok(format!("{}{html}", self.sentence()?))
    }

    /// A list that is a slide by itself, or several.
    fn words(&mut self, list: &str) -> Result<()> {
        for slide in flow("words", &self.heading.clone(), pieces(Kind::List, list)?) {
            self.push("words", slide.title, slide.body)?;
        }
        Ok(())
    }

    fn push(&mut self, class: &str, title: String, body: String) -> Result<()> {
        let notes = to_html(&self.prose[self.told..].join("\n\n"))?;
        self.told = self.prose.len();
        self.room = 0.0;
        // What stands before the first section has the chapter's name for a heading.
        let title = match (title.is_empty(), self.slides.first()) {
            (true, Some(first)) => first.title.clone(),
            _ => title,
        };
        self.slides.push(Slide { class: class.to_owned(), title, body, notes });
        Ok(())
    }
}

/// Height of a picture of the book's usual width, in its own units: letters are 13 and 15.
fn height(html: &str) -> Option<f64> {
    html.split("viewBox=\"0 0 520 ").nth(1)?.split('"').next()?.parse().ok()
}

/// What each item of a list begins with, if all begin in bold: a sentence, or two short ones.
fn leads(list: &str) -> Option<String> {
    let lead = |(number, text): &(Option<u64>, String)| {
        let found = sentences(text.split("\n\n").next()?);
        let said = match &found[..] {
            [one, two, ..] if one.len() < 40 && one.len() + two.len() < 190 => {
                format!("{one} {two}")
            }
            [one, ..] => one.clone(),
            [] => return None,
        };
        let bullet = number.map_or("-".to_owned(), |n| format!("{n}."));
        said.starts_with("**").then(|| format!("{bullet} {said}\n"))
    };
    items(list).iter().map(lead).collect()
}

/// What a paragraph, or each item of a list, begins with.
fn firsts(text: &str) -> Vec<String> {
    let text = text.trim_start_matches(['>', ' ']);
    let is_list = text.starts_with("- ") || text.starts_with("1. ");
    let parts: Vec<String> = match is_list {
        true => items(text).into_iter().map(|(_, item)| item).collect(),
        false => vec![text.to_owned()],
    };
    parts.iter().filter_map(|part| sentences(part).into_iter().next()).collect()
}
