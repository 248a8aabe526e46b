//! The sentence at the end of an explanation.

use super::LayerKind;
use super::descend::{Hide, Sight, Why};
use super::explain::{Story, word};
use super::form;
use crate::index::{Index, Kind, NodeId};
use crate::marker::Redirect;
use crate::name::printable;
use std::os::unix::ffi::OsStrExt;

/// How much of a build step is quoted, in characters.
const STEP: usize = 60;

pub(super) fn of(story: &Story<'_>) -> String {
    let depth = story.parts.len();
    let path = story.path_at(depth);
    if let Some((i, node)) = story.seen(depth) {
        return format!("`{path}` is there: {}", there(story, i, node.kind));
    }
    if let Some(link) = behind_symlink(story) {
        return link;
    }
    let why = hidden(story)
        .or_else(|| lone_whiteout(story))
        .unwrap_or_else(|| format!("no layer holds it{}", nearest(story)));
    format!("`{path}` is not there: {why}")
}

fn there(story: &Story<'_>, i: usize, kind: Kind) -> String {
    let depth = story.parts.len();
    let mut parts: Vec<usize> = story.last().parts().map(|(i, _)| i).collect();
    let mut text = if parts.len() > 1 {
        parts.remove(0);
        let others: Vec<String> = parts.iter().map(|p| story.number(*p).to_string()).collect();
        let (s, list) = match others.split_last() {
            Some((last, [])) => ("", last.clone()),
            Some((last, rest)) => ("s", format!("{} and {last}", rest.join(", "))),
            None => ("", String::new()),
        };
        format!(
            "a directory with the attributes that {} gives it, merged with layer{s} {list}",
            story.layer(i)
        )
    } else {
        format!("the {} comes from {}", word(kind), story.layer_with_step(i))
    };
    if kind == Kind::File
        && let Some(h) = story.held(depth, i)
        && form::metacopy(&story.layers[i], h.node).is_some()
    {
        // by the same name, unless it was renamed
        let holds_data = |j: &usize| {
            story.held(depth, *j).and_then(|h| story.node(*j, h.node)).is_some_and(|n| {
                n.kind == Kind::File && form::metacopy(&story.layers[*j], n.id).is_none()
            })
        };
        let whose = (i + 1..story.layers.len()).find(holds_data);
        let whose = whose.map_or("a layer below".to_owned(), |j| story.layer(j));
        text.push_str(&format!(" as a metacopy: it brings the attributes, and {whose} the data"));
    }
    if let Some(from) = renamed_from(story) {
        text.push_str(&format!("; layers below hold it as `{from}`, since it was renamed"));
    }
    if kind == Kind::Symlink
        && let Some(h) = story.held(depth, i)
    {
        let target = printable(story.layers[i].index.symlink_target(h.node));
        text.push_str(&format!(" and points to `{target}`"));
    }
    let hidden = story.last().held.iter().enumerate().find_map(|(j, h)| match h {
        Some(h) => match h.sight {
            Sight::Hidden(hide) => Some((j, h.node, hide)),
            _ => None,
        },
        None => None,
    });
    if let Some((j, node, hide)) = hidden {
        let what = story.node(j, node).map_or("entry", |n| word(n.kind));
        let below = story.layer(j);
        let more = match hide.why {
            Why::NonDirectory if hide.by == i => format!("it replaces the {what} of {below}"),
            _ => format!("{} hides the {what} of {below}", cause(story, hide, false)),
        };
        text.push_str("; ");
        text.push_str(&more);
    }
    text
}

/// What hides the topmost thing that a layer holds at the path.
fn hidden(story: &Story<'_>) -> Option<String> {
    let (j, node, hide) =
        story.last().held.iter().enumerate().find_map(|(j, h)| match h.as_ref()?.sight {
            Sight::Hidden(hide) => Some((j, h.as_ref()?.node, hide)),
            _ => None,
        })?;
    let what = story.node(j, node).map_or("entry", |n| word(n.kind));
    let mut text =
        format!("{} hides the {what} that {} brought", cause(story, hide, true), story.layer(j));
    if hide.why == Why::Whiteout
        && let Some(to) = renamed_to(story, hide)
    {
        text.push_str(&format!(" (it was renamed to `{to}`)"));
    }
    Some(text)
}

/// The thing that hides, as the subject of a sentence.
fn cause(story: &Story<'_>, hide: Hide, step: bool) -> String {
    let layer = if step { story.layer_with_step(hide.by) } else { story.layer(hide.by) };
    let at = story.path_at(hide.depth);
    let above = hide.depth < story.parts.len();
    let kind = story
        .held(hide.depth, hide.by)
        .and_then(|h| story.node(hide.by, h.node))
        .map_or("entry", |n| word(n.kind));
    match hide.why {
        Why::Whiteout if above => format!("the whiteout of `{at}` in {layer}"),
        Why::Whiteout => format!("the whiteout in {layer}"),
        Why::Opaque => format!("the opaque directory `{at}` in {layer}"),
        Why::NonDirectory | Why::Directory => format!("the {kind} `{at}` in {layer}"),
        Why::Redirect => format!("the directory `{at}`, renamed in {layer},"),
    }
}

fn lone_whiteout(story: &Story<'_>) -> Option<String> {
    let held = story.last().held.iter();
    let i = held.enumerate().find_map(|(i, h)| match h {
        Some(h) if h.sight == Sight::Deletes => Some(i),
        _ => None,
    })?;
    Some(format!("{} has a whiteout for it, but no layer below holds it", story.layer_with_step(i)))
}

fn behind_symlink(story: &Story<'_>) -> Option<String> {
    let link = story.symlink()?;
    Some(format!(
        "`{}` lies behind a symlink, and symlinks are not followed: `{}` points to `{}` (layer {}); \
         ask for `{}`",
        story.path_at(story.parts.len()),
        link.at,
        link.target,
        link.layer,
        link.ask
    ))
}

/// What is seen of the way to the path.
fn nearest(story: &Story<'_>) -> String {
    let depth = story.parts.len();
    for d in (1..depth).rev() {
        if let Some((i, node)) = story.seen(d) {
            let at = story.path_at(d);
            return if node.kind == Kind::Dir {
                format!("; the nearest that is there is the directory `{at}`")
            } else {
                format!("; `{at}` is a {}, from {}", word(node.kind), story.layer(i))
            };
        }
    }
    String::new()
}

/// Where a layer below holds a directory that was renamed.
fn renamed_from(story: &Story<'_>) -> Option<String> {
    let held = story.last().held.iter().enumerate();
    let (i, h) = held
        .filter_map(|(i, h)| h.map(|h| (i, h)))
        .find(|(_, h)| h.redirected && h.sight == Sight::Merged)?;
    let path = story.layers[i].index.path(h.node);
    Some(format!("/{}", printable(&path)))
}

/// The new name of what a layer has a whiteout for.
fn renamed_to(story: &Story<'_>, hide: Hide) -> Option<String> {
    let index = &*story.layers.get(hide.by)?.index;
    let wanted = story.raw_path(hide.depth);
    let ids = (0..u32::try_from(index.len()).unwrap_or(u32::MAX)).map(NodeId);
    let moved = ids.filter(|id| index.node(*id).is_some_and(|n| n.has_redirect));
    moved
        .into_iter()
        .find(|id| origin(index, *id).as_ref() == Some(&wanted))
        .map(|id| format!("/{}", printable(&index.path(id))))
}

fn origin(index: &Index, id: NodeId) -> Option<Vec<u8>> {
    match index.redirect(id)? {
        Redirect::Absolute(path) => {
            Some(path.iter().flat_map(|p| [b"/", &p[..]].concat()).collect())
        }
        Redirect::Sibling(name) => {
            let parent = index.path(index.node(id)?.parent);
            let dir = if parent.is_empty() { Vec::new() } else { [b"/", &parent[..]].concat() };
            Some([&dir[..], b"/", &name].concat())
        }
    }
}

impl Story<'_> {
    fn layer(&self, position: usize) -> String {
        let n = self.number(position);
        match self.layers.get(position).map(|l| l.kind) {
            Some(LayerKind::Upper) => format!("the writable layer ({n})"),
            Some(LayerKind::Init) => format!("the init layer ({n})"),
            _ => format!("layer {n}"),
        }
    }

    fn layer_with_step(&self, position: usize) -> String {
        let name = self.layer(position);
        let Some(layer) = self.layers.get(position) else { return name };
        match (&layer.created_by, &layer.path) {
            (Some(step), _) => format!("{name} (created by `{}`)", short_step(step, STEP)),
            (None, Some(path)) if layer.kind == LayerKind::Directory => {
                format!("{name} ({})", printable(path.as_os_str().as_bytes()))
            }
            _ => name,
        }
    }
}

/// Returns what tells a build step from others, printable and on one line of at most `most`
/// characters: without what builders put around every step.
#[must_use]
pub fn short_step(step: &str, most: usize) -> String {
    let step = step.split_whitespace().collect::<Vec<_>>().join(" ");
    let inner = ["/bin/sh -c #(nop) ", "/bin/sh -c "]
        .iter()
        .find_map(|p| step.strip_prefix(p))
        .unwrap_or(&step)
        .trim_end_matches("# buildkit")
        .trim();
    let text = printable(inner.as_bytes());
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
