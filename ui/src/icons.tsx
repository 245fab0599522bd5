/** The page's few icons, drawn in one weight. */
import type { ComponentChildren } from 'preact';

function Icon({ children, size = 16 }: { children: ComponentChildren; size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.3"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

export const Logo = () => (
  <svg width="22" height="22" viewBox="0 0 22 22" fill="none" aria-hidden="true" class="logo">
    <path d="M8 6h8.5v8" class="logo-line" stroke-width="1.6" />
    <path d="M5 10v3.5h5" class="logo-line" stroke-width="1.6" />
    <rect x="2" y="3" width="6.5" height="6.5" rx="1.8" class="logo-one" />
    <rect x="13" y="13" width="6.5" height="6.5" rx="1.8" class="logo-two" />
  </svg>
);
export const SearchIcon = () => (
  <Icon>
    <circle cx="7" cy="7" r="4.5" />
    <path d="m10.5 10.5 3.5 3.5" />
  </Icon>
);
export const TableIcon = () => (
  <Icon>
    <rect x="2" y="2.5" width="12" height="11" rx="1" />
    <path d="M2 6h12M2 9.7h12M6 6v7.5" />
  </Icon>
);
export const LinkIcon = () => (
  <Icon>
    <path d="M6.8 9.2a2.6 2.6 0 0 0 3.7 0l2.4-2.4a2.6 2.6 0 1 0-3.7-3.7l-1 1" />
    <path d="M9.2 6.8a2.6 2.6 0 0 0-3.7 0L3.1 9.2a2.6 2.6 0 1 0 3.7 3.7l1-1" />
  </Icon>
);
export const MoonIcon = () => (
  <Icon>
    <path d="M13.5 9.6A5.8 5.8 0 0 1 6.4 2.5a5.8 5.8 0 1 0 7.1 7.1Z" />
  </Icon>
);
export const SunIcon = () => (
  <Icon>
    <circle cx="8" cy="8" r="2.8" />
    <path d="M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9" />
  </Icon>
);
export const CloseIcon = () => (
  <Icon>
    <path d="m4 4 8 8M12 4l-8 8" />
  </Icon>
);
export const PlusIcon = () => (
  <Icon>
    <path d="M8 3v10M3 8h10" />
  </Icon>
);
export const MinusIcon = () => (
  <Icon>
    <path d="M3 8h10" />
  </Icon>
);
export const FitIcon = () => (
  <Icon>
    <path d="M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10" />
  </Icon>
);
export const TidyIcon = () => (
  <Icon>
    <path d="M2.5 2.5h4.5v4.5H2.5ZM9.5 2.5h4v3h-4ZM9.5 8.5h4v5h-4ZM2.5 9.5H7v4H2.5Z" />
  </Icon>
);
export const MapIcon = () => (
  <Icon>
    <path d="m2 4 4-1.5 4 1.5 4-1.5v9.5L10 13.5 6 12l-4 1.5ZM6 2.5V12M10 4v9.5" />
  </Icon>
);
export const NodesIcon = () => (
  <Icon>
    <rect x="2.5" y="2.5" width="11" height="4.4" rx="1" />
    <rect x="2.5" y="9.1" width="11" height="4.4" rx="1" />
    <path d="M5 4.7h.01M5 11.3h.01" />
  </Icon>
);
export const MoreIcon = () => (
  <Icon>
    <path d="M3.5 8h.01M8 8h.01M12.5 8h.01" stroke-width="1.8" />
  </Icon>
);
export const ArrowIcon = ({ bad = false }: { bad?: boolean }) => (
  <svg width="17" height="12" viewBox="0 0 17 12" class={bad ? 'arrow bad' : 'arrow'} aria-hidden="true">
    <path d="M1 6h14M10.5 1.5 15 6l-4.5 4.5" fill="none" stroke="currentColor" stroke-width="1.8" />
  </svg>
);
/** Loss: a crossed circle. */
export const LossIcon = () => (
  <Icon size={14}>
    <circle cx="8" cy="8" r="6" />
    <path d="m5.7 5.7 4.6 4.6M10.3 5.7l-4.6 4.6" />
  </Icon>
);
/** Warning: a triangle. */
export const WarningIcon = () => (
  <Icon size={14}>
    <path d="M8 2.2 14.4 13.4H1.6Z" />
    <path d="M8 6.5v3.2M8 11.6h.01" />
  </Icon>
);
/** Failed connects: an octagon with a bar. */
export const ConnectsIcon = () => (
  <Icon size={14}>
    <path d="M5.3 1.6h5.4l3.7 3.7v5.4l-3.7 3.7H5.3L1.6 10.7V5.3Z" />
    <path d="M5 8h6" />
  </Icon>
);
/** Drops: a square with an arrow down. */
export const DropsIcon = () => (
  <Icon size={14}>
    <rect x="2.2" y="2.2" width="11.6" height="11.6" rx="1.6" />
    <path d="M8 4.8v6M5.4 8.4 8 11l2.6-2.6" />
  </Icon>
);
/** Failing DNS: a diamond with a mark. */
export const DnsIcon = () => (
  <Icon size={14}>
    <path d="M8 1.2 14.8 8 8 14.8 1.2 8Z" />
    <path d="M8 4.8v3.8M8 11h.01" />
  </Icon>
);
