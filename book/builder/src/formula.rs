//! Arithmetic over named quantities: what the answers of questions are written in.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Names and their values.
pub type Quantities = BTreeMap<String, f64>;

/// The value of a formula such as `2 * (8 - 1) / 8 * 4 * parameters`.
///
/// Operators are `+ - * / ^`, functions `ln log2 exp sqrt floor ceil`. A name may contain letters,
/// digits, `_`, and dots between two parts.
///
/// # Errors
/// When it cannot be read, or names a quantity that there is not.
pub fn evaluate(formula: &str, quantities: &Quantities) -> Result<f64> {
    let mut parser = Parser { rest: formula, quantities };
    let value = parser.sum().with_context(|| format!("the formula `{formula}`"))?;
    match parser.rest.trim() {
        "" => Ok(value),
        rest => bail!("the formula `{formula}`: cannot read `{rest}`"),
    }
}

struct Parser<'a> {
    rest: &'a str,
    quantities: &'a Quantities,
}

impl Parser<'_> {
    fn take(&mut self, sign: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Result<f64> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value += self.product()?;
            } else if self.take('-') {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64> {
        let mut value = self.power()?;
        loop {
            if self.take('*') {
                value *= self.power()?;
            } else if self.take('/') {
                value /= self.power()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn power(&mut self) -> Result<f64> {
        if self.take('-') {
            return Ok(-self.power()?);
        }
        let base = self.atom()?;
        if self.take('^') { Ok(base.powf(self.power()?)) } else { Ok(base) }
    }

    fn atom(&mut self) -> Result<f64> {
        if self.take('(') {
            let value = self.sum()?;
            if !self.take(')') {
                bail!("a parenthesis is never closed");
            }
            return Ok(value);
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let mut end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let is_power = self.rest.starts_with(|c: char| c.is_ascii_digit())
            && self.rest[..end].ends_with(['e', 'E'])
            && self.rest[end..].starts_with('-'); // 50e-6
        if is_power {
            let digits = self.rest[end + 1..].find(|c: char| !c.is_ascii_digit());
            end = digits.map_or(self.rest.len(), |digits| end + 1 + digits);
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if let Some((digits, power)) = word.split_once(['e', 'E'])
            && let (Ok(digits), Ok(power)) = (digits.parse::<f64>(), power.parse::<i32>())
        {
            return Ok(digits * 10f64.powi(power));
        }
        if let Ok(number) = word.parse() {
            return Ok(number);
        }
        let function: fn(f64) -> f64 = match word {
            "ln" => f64::ln,
            "log2" => f64::log2,
            "exp" => f64::exp,
            "sqrt" => f64::sqrt,
            "floor" => f64::floor,
            "ceil" => f64::ceil,
            "" => bail!("a number, a name or a parenthesis is missing"),
            name => {
                let value = self.quantities.get(name);
                return value.copied().with_context(|| format!("there is no quantity `{name}`"));
            }
        };
        Ok(function(self.atom()?))
    }
}

/// A number as the book writes it: `3,412,480`, `0.2`; with a unit `3.41 MB`, `20 %`.
pub fn written(value: f64, unit: &str) -> String {
    let scaled = match unit {
        "%" => value * 100.0,
        "" => value,
        unit => value / scale(unit),
    };
    let space = if unit.is_empty() { "" } else { "\u{a0}" };
    format!("{}{space}{unit}", digits(scaled))
}

/// What a unit's prefix multiplies by: `kB`, `MiB`, `ms`.
fn scale(unit: &str) -> f64 {
    match unit {
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "ms" => 1e-3,
        "µs" => 1e-6,
        _ => 1.0,
    }
}

/// A whole number with all its digits, any other with three that count.
fn digits(value: f64) -> String {
    let whole = value.round();
    if (value - whole).abs() <= 1e-9 * value.abs().max(1.0) && whole.abs() < 1e15 {
        return grouped(&format!("{whole}"));
    }
    let size = value.abs().log10().floor() as i32;
    let text = format!("{value:.*}", (2 - size).clamp(0, 9) as usize);
    let text = if text.contains('.') { text.trim_end_matches('0') } else { &text };
    grouped(text.trim_end_matches('.'))
}

/// A number with commas between its thousands.
pub(crate) fn grouped(text: &str) -> String {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(w, f)| (w, Some(f)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("−", rest));
    let mut out = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    fraction.map_or(out.clone(), |fraction| format!("{out}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(formula: &str) -> f64 {
        evaluate(formula, &[("a.b_2".to_owned(), 7.0)].into()).unwrap()
    }

    #[test]
    fn formulas_are_read_as_written() {
        assert_eq!(value("2 * (8 - 1) / 8"), 1.75);
        assert_eq!(value("2^3^2 - -1"), 513.0);
        assert_eq!(value("50e-2*2 + 1e1"), 11.0);
        assert_eq!(value("a.b_2 * 4e3 + floor(7.9) - log2 8"), 28004.0);
        assert!((value("ln(256)") - 5.545177).abs() < 1e-6);
    }

    #[test]
    fn mistakes_are_errors() {
        let fails = |formula| format!("{:#}", evaluate(formula, &[].into()).unwrap_err());
        assert!(fails("2 * hidden").contains("there is no quantity `hidden`"));
        assert!(fails("(2").contains("never closed"));
        assert!(fails("2 2").contains("cannot read `2`"));
        assert!(fails("2 *").contains("missing"));
    }

    #[test]
    fn numbers_are_written_as_in_the_book() {
        assert_eq!(written(3_412_480.0, ""), "3,412,480");
        assert_eq!(written(3_412_480.0, "MB"), "3.41\u{a0}MB");
        assert_eq!(written(0.2, "%"), "20\u{a0}%");
        assert_eq!(written(2.0 / 3.0, ""), "0.667");
        assert_eq!(written(5.545177, ""), "5.55");
        assert_eq!(written(0.75, "ms"), "750\u{a0}ms");
        assert_eq!(written(4.87e12, "TB"), "4.87\u{a0}TB");
        assert_eq!(written(12345.6, ""), "12,346");
    }
}
