//! Runs a lesson's tests from the easiest on, and says how far the learner is.

use anyhow::{Result, bail};
use clap::Args;
use console::style;

use crate::cargo::{self, Build, Place};
use crate::harness::{Built, Verdict};
use crate::lesson::{self, Case, Lesson};
use crate::process::Runner;
use crate::repo::Repo;
use crate::work::Work;
use crate::{keep, suite, tell};

/// A test has so many seconds, where its lesson says nothing else.
pub const SECONDS: u64 = 60;

#[derive(Args)]
pub struct Check {
    /// The lesson, such as step03
    step: Option<String>,
    /// Show the hint of this number, for the first red test or the first function to write
    #[arg(long)]
    hint: Option<usize>,
    /// Show the hint for this function, and run nothing
    #[arg(long)]
    function: Option<String>,
    /// How many seconds a test may take, instead of 60
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Leave out the whole suites that follow the lesson's tests
    #[arg(long)]
    no_suite: bool,
}

/// What became of one test.
pub enum Seen {
    Green,
    Red(Vec<String>),
    Stuck(u64),
    /// Functions that are not written yet.
    Needs(Vec<String>),
    /// One above did not end.
    NotRun,
}

impl Seen {
    /// `None`: it was not run.
    pub fn is_green(&self) -> Option<bool> {
        match self {
            Self::Green => Some(true),
            Self::Red(_) | Self::Stuck(_) => Some(false),
            Self::Needs(_) | Self::NotRun => None,
        }
    }
}

impl Check {
    /// Whether all is green.
    pub fn run(&self) -> Result<bool> {
        let repo = Repo::here()?;
        let lesson = lesson::find(&repo.root, self.step.as_deref())?;
        if let Some(function) = &self.function {
            tell::hint(&lesson, std::slice::from_ref(function), self.hint.unwrap_or(1))?;
            return Ok(true);
        }
        let work = Work::read(&repo, &lesson, &keep::base(&repo, &lesson)?)?;
        let runner = Runner::new()?;
        println!("{}", style(format!("{}, {}", lesson.name, lesson.title)).bold());
        tell::before(&lesson, &work);
        let unwritten = work.unwritten();
        let can_run = |case: &Case| case.functions.iter().all(|it| !unwritten.contains(it));
        let mut built = None;
        if lesson.cases.iter().any(can_run) || work.functions.is_empty() {
            built = match self.build(&runner, &repo, &lesson.package, &lesson.tests)? {
                Some(built) => Some(built),
                None => return Ok(false),
            };
        }
        let mut seen = Vec::new();
        let wide = lesson.cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
        for case in &lesson.cases {
            let is_stuck = seen.iter().any(|it| matches!(it, Seen::Stuck(_)));
            let (one, took) = match &built {
                _ if is_stuck => (Seen::NotRun, None),
                Some(built) => self.one(&runner, built, case, &unwritten)?,
                None => (needs(case, &unwritten), None),
            };
            tell::line(case, &one, took, wide);
            seen.push(one);
        }
        let is_green = seen.iter().all(|it| matches!(it, Seen::Green));
        tell::standing(&lesson, &work, &seen);
        if !is_green {
            let about = tell::first(&lesson, &work, &seen);
            if let Some(number) = self.hint {
                tell::hint(&lesson, &about, number)?;
            }
            return Ok(false);
        }
        if self.hint.is_some() {
            println!("All tests are green: there is nothing to hint at.");
        }
        Ok(self.no_suite || self.suites(&runner, &repo, &lesson)?)
    }

    /// `None`: it does not compile, and why has been said.
    fn build(
        &self,
        runner: &Runner,
        repo: &Repo,
        package: &str,
        test: &str,
    ) -> Result<Option<Built>> {
        let start = std::time::Instant::now();
        match cargo::build(runner, &Place::of(&repo.root), package, test)? {
            Build::Ready(built) => {
                let took = format!("built in {:.1} s", start.elapsed().as_secs_f64());
                println!("  {}", style(took).dim());
                Ok(Some(built))
            }
            Build::Broken(broken) => {
                eprintln!("{}", broken.shown.trim_end());
                println!("\n{}: fix the first error first.", style("It does not compile").red());
                Ok(None)
            }
        }
    }

    fn one(
        &self,
        runner: &Runner,
        built: &Built,
        case: &Case,
        unwritten: &[String],
    ) -> Result<(Seen, Option<f64>)> {
        let missing = needs(case, unwritten);
        if let Seen::Needs(names) = &missing
            && !names.is_empty()
        {
            return Ok((missing, None));
        }
        let seconds = self.seconds.or(case.seconds).unwrap_or(SECONDS);
        let ran = built.run(runner, &case.name, seconds)?;
        let took = Some(ran.took.as_secs_f64());
        // Functions that the test needs without naming them.
        let said = |name: &&String| ran.said.contains(&format!("not yet implemented: {name}"));
        let needed: Vec<_> = unwritten.iter().filter(said).cloned().collect();
        let seen = match ran.verdict {
            Verdict::Green => Seen::Green,
            _ if !needed.is_empty() => Seen::Needs(needed),
            Verdict::Red(lines) => Seen::Red(lines),
            Verdict::Stuck(seconds) => Seen::Stuck(seconds),
        };
        Ok((seen, took))
    }

    fn suites(&self, runner: &Runner, repo: &Repo, lesson: &Lesson) -> Result<bool> {
        for (package, test) in &lesson.suite {
            println!("The whole suite, {package} {test}:");
            let Some(built) = self.build(runner, repo, package, test)? else { return Ok(false) };
            let suite = suite::run(runner, &built, test)?;
            tell::suite(test, &suite);
            if !suite.is_green {
                return Ok(false);
            }
        }
        println!("{} Compare: make solution STEP={}", style("All is green.").green(), lesson.name);
        Ok(true)
    }
}

fn needs(case: &Case, unwritten: &[String]) -> Seen {
    let missing = case.functions.iter().filter(|name| unwritten.contains(name));
    Seen::Needs(missing.cloned().collect())
}

/// Refuses a hint that there is not.
pub fn hint_of<'a>(lesson: &'a Lesson, name: &str, number: usize) -> Result<&'a str> {
    let Some(function) = lesson.functions.iter().find(|it| it.name == name) else {
        let all: Vec<_> = lesson.functions.iter().map(|it| it.name.as_str()).collect();
        bail!("FUNCTION={name}: {} has no such function; it has {}", lesson.name, all.join(", "));
    };
    match number.checked_sub(1).and_then(|index| function.hints.get(index)) {
        Some(hint) => Ok(hint),
        None => bail!("HINT={number}: {name} has {} hints", function.hints.len()),
    }
}
