//! Files to write: that they can be written, and that none of them is a file that the run
//! reads, or writes too.

use super::Asked;
use anyhow::{Context, Result, ensure};
use checkpoint::saved::named_in;
use report::is_special;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Each file to write is opened, which leaves no trace.
pub(super) fn check(asked: &Asked) -> Result<()> {
    let Asked { common, extras, file, .. } = *asked;
    let (data, run) = (common.data, common.run);
    let mut others: Vec<(&str, PathBuf)> = vec![];
    let settings = [
        ("config", file),
        ("data", data.data.as_deref()),
        ("eval-data", extras.eval_data),
        ("tokenizer", data.tokenizer.as_deref()),
    ];
    others.extend(settings.into_iter().filter_map(|(name, path)| Some((name, path?.to_owned()))));
    if let Some(dir) = common.hf_model {
        others.extend(files_of_model(dir)?.into_iter().map(|path| ("hf-model", path)));
    }
    if let Some(dir) = extras.resume {
        others.extend(files_of_checkpoints(dir).into_iter().map(|path| ("resume", path)));
    }

    if let Some(dir) = extras.export_hf {
        export(dir, asked, &others)?;
    }
    others.extend(extras.save.map(|path| ("save", path.to_owned())));
    others.extend(extras.export_hf.map(|path| ("export-hf", path.to_owned())));

    let mut outputs = vec![];
    outputs.extend(run.metrics.clone().map(|path| ("metrics", path)));
    outputs.extend(run.plot.clone().map(|path| ("plot", path)));
    run.tensorboard.as_deref().map_or(Ok(()), |dir| can_be_made("tensorboard", dir))?;
    // Each has a file beside it, under the same name.
    for (name, path, [own, other], beside, is_made) in [
        (
            "trace",
            run.trace.as_deref(),
            ["json", "svg"],
            "the trace's chart",
            "the chart that is drawn",
        ),
        (
            "memory",
            extras.memory,
            ["svg", "json"],
            "the data of memory",
            "the data that are written",
        ),
    ] {
        let Some(path) = path else { continue };
        outputs.push((name, path.to_owned()));
        if !is_special(path) {
            let second = path.with_extension(other);
            ensure!(
                second != path,
                "{name} {} has the name of {is_made} beside it: name it {}",
                path.display(),
                path.with_extension(own).display()
            );
            outputs.push((beside, second));
        }
    }
    // A pipe, or /dev/null, may be written to more than once.
    outputs.retain(|(_, path)| !is_special(path));
    for (name, path) in outputs {
        if let Some((other, _)) = others.iter().find(|(_, other)| same(other, &path)) {
            anyhow::bail!("{name} {} would overwrite {other}: name another file", path.display());
        }
        open_once(name, &path)?;
        others.push((name, path));
    }
    Ok(())
}

/// An export leaves nothing of what it finds in its directory, so nothing may lie there that the
/// run reads: neither `files` nor the directories that are named.
fn export(dir: &Path, asked: &Asked, files: &[(&str, PathBuf)]) -> Result<()> {
    let shown = dir.display();
    for (name, read) in [("hf-model", asked.common.hf_model), ("resume", asked.extras.resume)] {
        let it_is = read.is_some_and(|read| same(read, dir));
        ensure!(
            !it_is,
            "export-hf {shown} is {name}, which it would overwrite: name another directory"
        );
    }
    for (name, path) in files {
        ensure!(
            !lies_in(path, dir),
            "export-hf {shown} would overwrite what lies beside {name} {}: name another directory",
            path.display()
        );
    }
    Ok(())
}

/// Whether a file, or what it is a link to, is in a directory.
fn lies_in(file: &Path, dir: &Path) -> bool {
    let is_in = |file: &Path| {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        same(parent.unwrap_or(Path::new(".")), dir)
    };
    is_in(file) || file.canonicalize().is_ok_and(|file| is_in(&file))
}

/// The files of a Hugging Face model that are read, those among them that an export carries along.
fn files_of_model(dir: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("hf-model {} cannot be read", dir.display());
    let mut files = vec![];
    for entry in fs::read_dir(dir).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let json = ["config.json", "model.safetensors.index.json"].map(|name| dir.join(name));
        let name = path.file_name().and_then(|name| name.to_str());
        let is_weights = path.extension() == Some("safetensors".as_ref());
        if json.contains(&path) || is_weights || name.is_some_and(checkpoint::is_beside) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The files that are read of the checkpoint `dir`, or of those in it. (Whether it is one is
/// checked later.)
fn files_of_checkpoints(dir: &Path) -> Vec<PathBuf> {
    let inside = named_in(dir).unwrap_or_default().into_iter().map(|(_, path)| path);
    let entries = inside.chain([dir.to_owned()]).filter_map(|dir| fs::read_dir(dir).ok()).flatten();
    let of_a_checkpoint = |path: &PathBuf| {
        path.ends_with("checkpoint.json") || path.extension() == Some("safetensors".as_ref())
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(of_a_checkpoint).collect()
}

/// Whether two paths lead to the same place, whether it exists or not.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        path.canonicalize().ok().or_else(|| {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            Some(parent.unwrap_or(Path::new(".")).canonicalize().ok()?.join(path.file_name()?))
        })
    };
    a == b || place(a).is_some_and(|a| Some(a) == place(b))
}

/// That a directory can be written to, or made where there is none, which leaves no trace.
fn can_be_made(name: &str, dir: &Path) -> Result<()> {
    let shown = dir.display();
    ensure!(!dir.exists() || dir.is_dir(), "{name} {shown} is not a directory");
    let here = Path::new(".");
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(here);
    let probe = there.join(format!(".probe-{}", std::process::id()));
    let cannot = || format!("{name} {shown} cannot be written to");
    File::create(&probe).with_context(cannot)?;
    let _ = fs::remove_file(probe); // another rank's, if it has the same number on another host
    Ok(())
}

/// Opens it as a run would, but keeps its contents.
fn open_once(name: &str, path: &Path) -> Result<()> {
    let shown = path.display();
    ensure!(!path.is_dir(), "{name} {shown} is a directory, but must be a file");
    ensure!(path.file_name().is_some(), "{name} {shown:?} is not the name of a file");
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    ensure!(
        parent.is_none_or(Path::is_dir),
        "{name} {shown}: there is no directory {}",
        parent.unwrap_or(path).display()
    );
    let is_new = !path.exists();
    let opened = File::options().append(true).create(true).open(path);
    opened.with_context(|| format!("{name} {shown} cannot be written"))?;
    if is_new {
        // Another rank may have removed it already. And it may be a link to a file
        // that did not exist.
        let _ = path.canonicalize().and_then(fs::remove_file);
    }
    Ok(())
}
