/** Starts the page: styles, data, frame. */
import './style/base.css';
import './style/frame.css';
import './style/map.css';
import './style/table.css';
import './style/panels.css';
import './style/facts.css';
import './style/time.css';
import './style/narrow.css';
import { render } from 'preact';
import { App } from './app';
import { startFeed } from './feed';

const root = document.getElementById('app');
if (root === null) throw new Error('no #app in the page');
startFeed();
render(<App />, root);
