//! The steps, and the dimensions each one's world has.

use super::canvas::{At, Canvas};

const STEPS: [(&str, &str, &str, &[&str]); 7] = [
    ("step01", "one device", "a Llama and its training loop", &[]),
    ("step02", "data parallel", "replicas that sum their gradients", &["dp"]),
    ("step03", "tensor parallel", "every matrix in slices", &["dp", "tp"]),
    ("step04", "pipeline parallel", "the layers in stages", &["dp", "tp", "pp"]),
    ("step05", "context parallel", "the sequence round a ring", &["dp", "tp", "pp", "cp"]),
    ("step06", "four dimensions", "what a real run needs besides", &["dp", "tp", "pp", "cp"]),
    ("step07", "activations", "shared out or recomputed", &["dp", "tp", "pp", "cp"]),
];

pub fn svg() -> String {
    let desc = "Seven steps, one above the other. Step 1 trains on one device. Step 2 adds data \
                parallelism, step 3 tensor, step 4 pipeline and step 5 context parallelism; step 6 \
                uses all four and adds what a real run needs; step 7 keeps fewer activations.";
    let (height, gap, indent) = (50.0, 10.0, 14.0);
    let total = STEPS.len() as f64 * (height + gap) - gap + 4.0;
    let mut c = Canvas::new(520.0, total, "The ladder of seven steps", desc);
    for (i, (name, title, what, dims)) in STEPS.iter().enumerate() {
        let level = i as f64;
        let y = 2.0 + (STEPS.len() - 1 - i) as f64 * (height + gap);
        let x = 2.0 + level * indent;
        // The colour is that of the dimension the step adds, if it adds one.
        let before = if i == 0 { 0 } else { STEPS[i - 1].3.len() };
        let added = if dims.len() == before { "plain" } else { dims[dims.len() - 1] };
        c.rect(x, y, 516.0 - level * indent, height, added);
        c.text(x + 12.0, y + 21.0, At::Start, "mono strong", name);
        c.text(x + 78.0, y + 21.0, At::Start, "strong", title);
        c.text(x + 78.0, y + 40.0, At::Start, "small", what);
        for (k, dim) in dims.iter().enumerate() {
            let right = 508.0 - (dims.len() - 1 - k) as f64 * 37.0;
            c.rect(right - 32.0, y + 14.0, 32.0, 22.0, &format!("{dim} solid"));
            c.text(right - 16.0, y + 30.0, At::Middle, "small on", dim);
        }
    }
    c.finish()
}
