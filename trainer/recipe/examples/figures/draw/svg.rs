//! A small SVG writer. Coordinates are pixels from the upper left corner, written with one decimal.

use std::fmt::Write as _;

pub(super) const INK: &str = "#1b2733";
pub(super) const SOFT: &str = "#5b6875";
pub(super) const GRID: &str = "#dfe4ea";
pub(super) const PALE: &str = "#eef3f9";
pub(super) const BLUE: &str = "#1d5fa6";
pub(super) const ORANGE: &str = "#c4560a";
pub(super) const GREEN: &str = "#2b7a4b";

pub(super) type Point = (f64, f64);

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

pub(super) struct Canvas {
    width: u32,
    height: u32,
    body: String,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self { width, height, body: String::new() }
    }

    pub(super) fn line(&mut self, from: Point, to: Point, colour: &str, width: f64) {
        self.path(&[from, to], colour, width, "");
    }

    /// A line through `points`; `dashes` as in `stroke-dasharray`, empty for a solid line.
    pub(super) fn path(&mut self, points: &[Point], colour: &str, width: f64, dashes: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = if dashes.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{dashes}""#) };
        let points = points.join(" ");
        self.push(&format!(
            r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dashes}/>"#
        ));
    }

    /// A line through `points` with a head at its end.
    pub(super) fn arrow(&mut self, points: &[Point], colour: &str, dashes: &str) {
        self.path(points, colour, 1.5, dashes);
        let [.., before, tip] = points else { return };
        let (dx, dy) = (tip.0 - before.0, tip.1 - before.1);
        let length = dx.hypot(dy);
        let (ux, uy) = (dx / length, dy / length);
        let corner = |side: f64| (tip.0 - 7.0 * ux - side * 3.5 * uy, tip.1 - 7.0 * uy + side * 3.5 * ux);
        let ((ax, ay), (bx, by)) = (corner(1.0), corner(-1.0));
        self.push(&format!(
            r#"<polygon points="{:.1},{:.1} {ax:.1},{ay:.1} {bx:.1},{by:.1}" fill="{colour}"/>"#,
            tip.0, tip.1
        ));
    }

    pub(super) fn rectangle(&mut self, (x, y): Point, (width, height): Point, fill: &str, stroke: &str) {
        self.push(&format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="4" fill="{fill}" stroke="{stroke}"/>"#
        ));
    }

    /// A filled rectangle with neither border nor round corners; whole pixels leave no gap between neighbours.
    pub(super) fn cell(&mut self, (x, y): Point, (width, height): Point, fill: &str) {
        self.push(&format!(r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#));
    }

    pub(super) fn circle(&mut self, (x, y): Point, radius: f64, fill: &str, stroke: &str) {
        self.push(&format!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>"#
        ));
    }

    /// One line of text; `y` is its base line.
    pub(super) fn text(&mut self, (x, y): Point, size: u32, colour: &str, anchor: Anchor, text: &str) {
        self.label((x, y), size, colour, anchor, "", text);
    }

    pub(super) fn bold(&mut self, (x, y): Point, size: u32, colour: &str, anchor: Anchor, text: &str) {
        self.label((x, y), size, colour, anchor, r#" font-weight="600""#, text);
    }

    /// A box with a title and, below it, a smaller line.
    pub(super) fn titled(&mut self, at: Point, size: Point, fill: &str, stroke: &str, title: &str, below: &str) {
        self.rectangle(at, size, fill, stroke);
        let (x, y) = (at.0 + size.0 / 2.0, at.1 + size.1 / 2.0);
        self.bold((x, if below.is_empty() { y + 4.5 } else { y - 2.0 }), 13, INK, Anchor::Middle, title);
        if !below.is_empty() {
            self.text((x, y + 14.0), 11, SOFT, Anchor::Middle, below);
        }
    }

    fn label(&mut self, (x, y): Point, size: u32, colour: &str, anchor: Anchor, more: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{more}>{text}</text>"#
        ));
    }

    fn push(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// The whole file; `title` is what a screen reader says.
    pub(super) fn finish(self, title: &str) -> String {
        let Self { width, height, body } = self;
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" font-family="Helvetica, Arial, 'Liberation Sans', sans-serif">"#
        );
        let _ = writeln!(svg, "<title>{title}</title>");
        let _ = writeln!(svg, r#"<rect width="{width}" height="{height}" rx="8" fill="white"/>"#);
        svg.push_str(&body);
        svg.push_str("</svg>\n");
        svg
    }
}
