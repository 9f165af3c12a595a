//! The two orders of a pipeline's passes, as they would run if every stage took equally long: with
//! messages that take no time, and with messages that take some.

use super::canvas::{At, Canvas};

/// What each stage does in which order, under AFAB and under 1F1B, as the trainer lists it.
const LISTS: &str = include_str!("../../../pictures/schedules.txt");
const STAGES: usize = 4;
const LEFT: f64 = 34.0;
const WIDTH: f64 = 520.0;
const ROW: f64 = 26.0;
const BOX: f64 = 22.0;

/// Times are counted in halves of a forward pass.
const FORWARD: usize = 2;
const BACKWARD: usize = 4;

/// One micro-batch through one stage.
struct Pass {
    forward: bool,
    micro_batch: usize,
    start: usize,
}

impl Pass {
    fn end(&self) -> usize {
        self.start + if self.forward { FORWARD } else { BACKWARD }
    }
}

/// With messages that take no time.
pub fn svg() -> String {
    let desc = "Two charts, each with four stages, one row each, and eight micro-batches. AFAB: every \
                stage makes all forward passes, then all backward passes, from micro-batch 0 on. \
                1F1B: stage 0 makes four forward passes ahead, stage 1 three, stage 2 two and stage 3 \
                one; then each makes a backward and a forward pass in turn. Both take 33 units of time.";
    draw("Two schedules of a pipeline", desc, 0)
}

/// With messages that take half as long as a forward pass.
pub fn with_messages() -> String {
    let desc = "The same two charts, with messages that take half as long as a forward pass. AFAB \
                waits for six of them once, and takes 36 units of time. Under 1F1B every stage waits again \
                and again, and it takes 41.";
    draw("Two schedules of a pipeline, with messages", desc, 1)
}

fn draw(title: &str, desc: &str, message: usize) -> String {
    let height = 2.0 * (30.0 + ROW * STAGES as f64) + 52.0;
    let mut c = Canvas::new(WIDTH, height, title, desc);
    let charts = [("AFAB", run("afab", message)), ("1F1B", run("1f1b", message))];
    let longest = charts.iter().map(|(_, rows)| end(rows)).max().unwrap_or(1);
    let scale = Scale((WIDTH - LEFT - 4.0) / longest as f64);
    let mut y = 0.0;
    for (title, rows) in charts {
        c.text(2.0, y + 18.0, At::Start, "strong", title);
        y += 26.0;
        let end = end(&rows);
        for (stage, passes) in rows.iter().enumerate() {
            c.text(2.0, y + 15.5, At::Start, "mono small", &format!("pp{stage}"));
            let mut free = 0;
            for pass in passes {
                scale.idle(&mut c, free, pass.start, y);
                free = pass.end();
                scale.block(&mut c, pass, y);
            }
            scale.idle(&mut c, free, end, y);
            y += ROW;
        }
        y += 8.0;
    }
    legend(&mut c, y + 6.0);
    c.finish()
}

fn end(rows: &[Vec<Pass>]) -> usize {
    rows.iter().flatten().map(Pass::end).max().unwrap_or(0)
}

/// The passes of each stage: whether it is a forward one, and the micro-batch.
fn orders(schedule: &str) -> Vec<Vec<(bool, usize)>> {
    let pass = |word: &str| {
        let (direction, micro_batch) = word.split_at(1);
        (direction == "F", micro_batch.parse().expect("a number follows"))
    };
    let lists = LISTS.lines().skip_while(|line| *line != schedule).skip(1).take(STAGES);
    lists.map(|line| line.split(' ').map(pass).collect()).collect()
}

/// Each stage's passes in order. The order is the schedule's, the times follow from who
/// waits for whom.
fn run(schedule: &str, message: usize) -> Vec<Vec<Pass>> {
    let orders = orders(schedule);
    let mut rows: Vec<Vec<Pass>> = (0..STAGES).map(|_| Vec::new()).collect();
    while rows.iter().zip(&orders).any(|(row, order)| row.len() < order.len()) {
        for stage in 0..STAGES {
            let Some(&(forward, micro_batch)) = orders[stage].get(rows[stage].len()) else {
                continue;
            };
            // What the pass needs, if anything, comes from the stage before or behind.
            let from = if forward { stage.checked_sub(1) } else { Some(stage + 1) };
            let from = from.filter(|&from| from < STAGES);
            let same = |p: &&Pass| p.forward == forward && p.micro_batch == micro_batch;
            let arrived = match from {
                None => 0,
                Some(from) => match rows[from].iter().find(same) {
                    Some(pass) => pass.end() + message,
                    None => continue,
                },
            };
            let start = arrived.max(rows[stage].last().map_or(0, Pass::end));
            rows[stage].push(Pass { forward, micro_batch, start });
        }
    }
    rows
}

/// How wide a unit of time is.
struct Scale(f64);

impl Scale {
    fn block(&self, c: &mut Canvas, pass: &Pass, y: f64) {
        let (x, width) = (self.x(pass.start), self.0 * (pass.end() - pass.start) as f64);
        let (class, ink) = if pass.forward { ("pp", "small") } else { ("pp solid", "small on") };
        c.rect(x + 0.6, y, width - 1.2, BOX, class);
        c.text(x + width / 2.0, y + 15.5, At::Middle, ink, &pass.micro_batch.to_string());
    }

    fn idle(&self, c: &mut Canvas, from: usize, to: usize, y: f64) {
        if to > from {
            let gap = 1.5_f64.min(0.1 * self.0 * (to - from) as f64);
            let width = self.0 * (to - from) as f64 - 2.0 * gap;
            c.rect(self.x(from) + gap, y, width, BOX, "idle");
        }
    }

    fn x(&self, time: usize) -> f64 {
        LEFT + self.0 * time as f64
    }
}

fn legend(c: &mut Canvas, y: f64) {
    let words = [("pp", "forward"), ("pp solid", "backward, twice as long"), ("idle", "waiting")];
    let mut at = LEFT;
    for ((class, word), width) in words.into_iter().zip([100.0, 210.0, 0.0]) {
        c.rect(at, y, 22.0, 14.0, class);
        c.text(at + 29.0, y + 12.0, At::Start, "small", word);
        at += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schedules_idle_as_the_formula_says() {
        for schedule in ["afab", "1f1b"] {
            let micro_batches = orders(schedule)[0].len() / 2;
            assert_eq!((orders(schedule).len(), micro_batches), (STAGES, 8));
            let ideal = (FORWARD + BACKWARD) * (micro_batches + STAGES - 1);
            assert_eq!(end(&run(schedule, 0)), ideal);
        }
    }

    #[test]
    fn messages_cost_one_forward_one_backward_more() {
        // As the descriptions say, in forward passes.
        assert_eq!(
            ["afab", "1f1b"].map(|schedule| end(&run(schedule, 1))),
            [36 * FORWARD, 41 * FORWARD]
        );
    }
}
