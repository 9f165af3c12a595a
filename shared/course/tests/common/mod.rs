//! A small course of its own in a temporary folder, and the tool run inside it.

#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The file whose functions are the lesson.
pub const FILE: &str = "steps/one/src/lib.rs";

pub struct Course {
    folder: TempDir,
}

/// What the tool said, and its exit code.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Course {
    /// A repository with one commit.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture");
        copy(&from, folder.path());
        let course = Self { folder };
        course.git(&["init", "-q"]);
        course.commit("the course");
        course
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        fs::write(self.path(file), text).unwrap();
    }

    /// Changes the lesson's file.
    pub fn replace(&self, from: &str, to: &str) {
        let text = self.read(FILE);
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        self.write(FILE, &text.replace(from, to));
    }

    /// Writes a body in the place of a `todo!()`.
    pub fn solve(&self, name: &str, body: &str) {
        self.replace(&format!("todo!(\"{name}\")"), body);
    }

    pub fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        let words = ["-c", "user.name=a", "-c", "user.email=a@b.c"].iter().chain(words);
        let output = command.current_dir(self.folder.path()).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn commit(&self, subject: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", subject]);
    }

    /// Runs the tool.
    pub fn run(&self, words: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_course"));
        command.current_dir(self.folder.path()).args(words);
        command.env_remove("CARGO_TARGET_DIR").env_remove("LIBTORCH").env("NO_COLOR", "1");
        let output = command.output().unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a line that the tool printed.
    pub fn shell(&self, line: &str) {
        let course = env!("CARGO_BIN_EXE_course");
        let line = line.replace("make solution STEP=", &format!("{course} solution "));
        let output =
            Command::new("sh").args(["-c", &line]).current_dir(self.folder.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What `grade.json` says.
    pub fn grade(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(&format!("grade-{name}/grade.json"))).unwrap()
    }
}

impl Said {
    /// The line that holds `text`.
    #[track_caller]
    pub fn line(&self, text: &str) -> &str {
        let found = self.out.lines().chain(self.err.lines()).find(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no `{text}` in:\n{}\n{}", self.out, self.err)).trim()
    }

    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
}

/// Manifests have another name here, so that cargo does not take them for packages of this
/// workspace.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let name = name.trim_end_matches(".in").replace("gitignore", ".gitignore");
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(name)),
            false => drop(fs::copy(entry.path(), to.join(name)).unwrap()),
        }
    }
}
