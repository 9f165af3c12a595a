//! Finds the steps of the ladder and reads their files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// One rung of the ladder: a crate under `steps/`.
pub struct Step {
    /// Package name, such as `step02`.
    pub name: String,
    /// Text of every file, by its path inside the step's directory.
    pub files: BTreeMap<String, String>,
}

/// All steps under `root/steps`, in order.
///
/// # Errors
/// When a directory's name is not `stepNN-title`, or a file is not UTF-8.
pub fn load(root: &Path) -> Result<Vec<Step>> {
    let home = root.join("steps");
    let mut steps = Vec::new();
    for entry in std::fs::read_dir(&home).with_context(|| format!("reading {}", home.display()))? {
        let dir = entry?.path();
        let title = dir.file_name().unwrap_or_default().to_string_lossy();
        if !dir.is_dir() {
            continue;
        }
        let Some((name, _)) = title.split_once('-').filter(|(name, _)| is_step(name)) else {
            bail!("steps/{title} is not named like step02-data-parallel");
        };
        let mut files = BTreeMap::new();
        read_files(&dir, &dir, &mut files)?;
        steps.push(Step { name: name.to_owned(), files });
    }
    steps.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(steps)
}

/// Whether `name` is `step` and two digits.
fn is_step(name: &str) -> bool {
    name.strip_prefix("step")
        .is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn read_files(top: &Path, dir: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Build outputs and editors' files are not part of a step.
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            read_files(top, &path, files)?;
        } else {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("reading {}", path.display()))?;
            let inside = path.strip_prefix(top)?.to_string_lossy().into_owned();
            files.insert(inside, text);
        }
    }
    Ok(())
}

/// The position of the step called `name`.
///
/// # Errors
/// When there is none; the message lists those that exist.
pub fn position(steps: &[Step], name: &str) -> Result<usize> {
    steps.iter().position(|step| step.name == name).with_context(|| {
        let known: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
        format!("there is no step `{name}` (there are: {})", known.join(", "))
    })
}
