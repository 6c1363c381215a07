document.body.append('hello from vite');
