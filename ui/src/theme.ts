/** The canvas takes its colours from the style sheet, so that there is one palette. */
import type { Palette } from './paint';
import type { Theme } from './store';

/** Reads the palette of a theme; the theme is set on the page first. */
export function readPalette(theme: Theme): Palette {
  const root = document.documentElement;
  root.dataset.theme = theme;
  const style = getComputedStyle(root);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: colour('ink'),
    tile: colour('tile'),
    hairline: colour('hairline'),
    text: colour('text'),
    label: colour('label'),
    muted: colour('muted'),
    l4: colour('l4'),
    dns: colour('dns'),
    warning: colour('warning'),
    warningInk: colour('warning-ink'),
    bad: colour('bad'),
    badInk: colour('bad-ink'),
    fresh: colour('fresh'),
    scale: colour('scale'),
    scaleInk: colour('scale-ink'),
    particle: colour('particle'),
    step0: colour('step-0'),
    step1: colour('step-1'),
    step2: colour('step-2'),
    step3: colour('step-3'),
  };
}
