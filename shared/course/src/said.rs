//! The essential lines of what a failing test prints.

/// Of a long message, so many lines.
const LINES: usize = 14;

/// What a test of libtest said when it failed: its own panic first, without the back trace, and the first panic of
/// another thread, such as a rank's.
pub fn essential(stdout: &str, stderr: &str, test: &str) -> Vec<String> {
    let panics = panics(stderr);
    let mut lines = Vec::new();
    let own = panics.iter().find(|panic| panic.thread == test);
    let other = panics.iter().find(|panic| panic.thread != test);
    for panic in [own, other].into_iter().flatten() {
        lines.extend(panic.message.iter().cloned());
        lines.push(format!("(at {}{})", panic.at, of_thread(panic, test)));
    }
    if lines.is_empty() {
        // A test that returns an error.
        let all: Vec<_> = stderr.lines().collect();
        let start = all.iter().position(|line| line.starts_with("Error: "));
        lines.extend(all[start.unwrap_or(all.len())..].iter().map(|line| line.to_string()));
    }
    if lines.is_empty() {
        let said = stderr.lines().chain(stdout.lines());
        let said = said.filter(|line| !line.trim().is_empty() && !line.contains("`--logfile`"));
        lines = said.map(str::to_owned).collect();
        let from = lines.len().saturating_sub(LINES);
        lines.drain(..from);
    }
    cut(lines)
}

fn of_thread(panic: &Panic, test: &str) -> String {
    if panic.thread == test { String::new() } else { format!(", in thread {}", panic.thread) }
}

struct Panic {
    thread: String,
    at: String,
    message: Vec<String>,
}

/// `thread 'NAME' (1) panicked at FILE:LINE:COLUMN:` and the lines that follow.
fn panics(stderr: &str) -> Vec<Panic> {
    let mut all: Vec<Panic> = Vec::new();
    let mut is_message = false;
    for line in stderr.lines() {
        let head = line.split_once("thread '").filter(|_| line.contains("panicked at "));
        if let Some((_, rest)) = head {
            let thread = rest.split('\'').next().unwrap_or_default().to_owned();
            let at = rest.split_once("panicked at ").map_or("", |(_, at)| at);
            let at = at.trim_end_matches(':').to_owned();
            all.push(Panic { thread, at, message: Vec::new() });
            is_message = true;
            continue;
        }
        let ends = ["note: ", "stack backtrace:", "Error: "].iter().any(|it| line.starts_with(it));
        is_message &= !ends;
        if let Some(last) = all.last_mut().filter(|_| is_message && !line.trim().is_empty()) {
            last.message.push(line.trim_end().to_owned());
        }
    }
    all
}

fn cut(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("[{more} more lines]"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::essential;

    #[test]
    fn the_tests_own_panic_comes_first_and_back_traces_are_left_out() {
        let stderr = "thread 'rank' (7) panicked at src/lib.rs:5:87:\nleft 1\n right\nnote: run with\n\n\
                      thread 'e' (8) panicked at src/lib.rs:9:1:\nranks differ\nstack backtrace:\n   0: x\n";
        let lines = essential("", stderr, "e");
        let all = ["ranks differ", "(at src/lib.rs:9:1)", "left 1", " right"];
        assert_eq!(lines[..4], all);
        assert_eq!(lines[4], "(at src/lib.rs:5:87, in thread rank)");
    }
}
